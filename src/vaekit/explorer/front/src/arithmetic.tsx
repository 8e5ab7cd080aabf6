// Arithmetic: the direction from one set of codes to another, added to a code.

import { useEffect, useMemo, useState } from "preact/hooks";
import { dot, meanOf, norm, text } from "./maths";
import { Model, Numbers } from "./model";
import { GroupingChooser, RowChooser } from "./parts";
import { Row } from "./row";
import { answers, context, groups, row, setA, setB, z } from "./state";

export function ArithmeticPanel({ model }: { model: Model }) {
  const by = groups.value, labels = by?.names ?? null;
  const [strength, setStrength] = useState(1), [decoded, setDecoded] = useState<Numbers | null>(null), [problem, setProblem] = useState("");
  const picked = Math.min(row.value, model.rowCount - 1);
  const d = model.latents;
  const byLabel = (label: number) => Array.from({ length: model.n }, (_, i) => i).filter((i) => by!.of[i] === label);

  // What a set is: all codes of a label, or those of an outline.
  const wholeLabel = (set: number[]) => {
    const label = by!.of[set[0]], count = by!.of.reduce((n, one) => n + Number(one === label), 0);
    return set.length === count && set.every((i) => by!.of[i] === label) ? labels![label] : "outlined";
  };

  useEffect(() => {
    if (labels && labels.length > 1 && !setA.value.length && !setB.value.length) { setA.value = byLabel(0); setB.value = byLabel(1); }
  }, [model, by]);

  // The direction is made of the even members of both sets, and judged on the odd ones.
  const found = useMemo(() => {
    const split = (set: number[]) => [set.filter((_, i) => i % 2 === 0), set.filter((_, i) => i % 2 === 1)];
    const [a, heldA] = split(setA.value), [b, heldB] = split(setB.value);
    if (!a.length || !b.length) return null;
    const meanA = meanOf(model.mean, d, a), meanB = meanOf(model.mean, d, b);
    const direction = meanA.map((v, i) => v - meanB[i]), length = norm(direction);
    const middle = (dot(meanA, direction) + dot(meanB, direction)) / 2;
    const side = (i: number) => dot(model.mean.subarray(i * d, (i + 1) * d), direction) > middle;
    const held = [...heldA.map((i) => side(i)), ...heldB.map((i) => !side(i))];
    const rate = held.length ? held.filter(Boolean).length / held.length : null;
    const error = rate === null ? null : Math.sqrt((rate * (1 - rate)) / held.length);
    const shares = Array.from(direction, (v, i) => ({ i, share: length ? (v / length) ** 2 : 0, v })).sort((p, q) => q.share - p.share);
    return { direction, length, rate, error, held: held.length, shares };
  }, [model, setA.value, setB.value]);

  const moved = found && model.code(picked).map((v, i) => v + strength * found.direction[i]);
  useEffect(() => {
    let over = false;
    if (!moved) { setDecoded(null); return; }
    answers().decode(Float32Array.from(moved), 1, model.contextOf(picked) ?? context.value).then((x) => {
      if (over) return;
      const bad = x.some((v) => !Number.isFinite(v));
      setDecoded(bad ? null : x);
      setProblem(bad ? "This code decodes to numbers that are not finite." : "");
    }, (error: Error) => !over && setProblem(error.message));
    return () => { over = true; };
  }, [model, picked, strength, found]);

  const chooser = (name: string, set: typeof setA) => (
    <label>Set {name}
      {labels ? (
        <select value="" onChange={(e) => { if (e.currentTarget.value !== "") set.value = byLabel(Number(e.currentTarget.value)); }}>
          <option value="">{set.value.length ? `${wholeLabel(set.value)} (${set.value.length} codes)` : "choose a label"}</option>
          {labels.map((label, i) => <option key={i} value={i}>{label}</option>)}
        </select>
      ) : <span class="note">{set.value.length ? `${set.value.length} codes` : "outline it on the map"}</span>}
    </label>
  );
  return (
    <div class="main">
      <p class="lead">The mean code of set A less that of set B is a direction of z. Added to the code of a row, it should make the row more like A.</p>
      <div class="row-of-controls">
        <GroupingChooser model={model} label="Sets by" />
        {chooser("A", setA)}{chooser("B", setB)}
        <RowChooser model={model} label="Add to row" value={picked} onChange={(i) => { row.value = i; }} />
        <label class="grow">Strength
          <input type="range" min={-2} max={2} step={0.1} value={strength} onInput={(e) => setStrength(Number(e.currentTarget.value))} />
          <output>{strength.toFixed(1).replace("-", "−")}</output>
        </label>
      </div>
      {labels && <p class="note">Sets can be outlined on the map, too.</p>}
      {problem && <p class="problem" role="alert">{problem}</p>}
      {!found && <p class="empty">Choose two sets of codes.</p>}
      {found && <>
        <div class="panes" aria-live="polite">
          <figure class="pane"><figcaption>row {picked}{model.labels && `, ${model.labelOf(picked)}`}</figcaption><Row model={model} x={model.row(picked)} label={`Row ${picked}`} /></figure>
          {decoded && <figure class="pane"><figcaption>row {picked} {strength < 0 ? "−" : "+"} {Math.abs(strength).toFixed(1)} (A − B)</figcaption><Row model={model} x={decoded} decoded label="Decoded" beside={model.facts.kind === "table" ? model.row(picked) : undefined} /></figure>}
        </div>
        <dl class="terms">
          <div><dt>Length of A − B</dt><dd>{text(found.length)}</dd></div>
          <div><dt>Hit rate</dt><dd>{found.rate === null ? "too few codes" : `${Math.round(100 * found.rate)} ± ${Math.max(1, Math.round(100 * found.error!))} %`} <span class="note">of {found.held} codes that the direction was not made from lie on their side</span></dd></div>
          <div><dt>Leakage</dt><dd>{Math.round(100 * (1 - found.shares[0].share))} % <span class="note">of the squared length is outside of z{found.shares[0].i}, its largest dimension</span></dd></div>
        </dl>
        <figure class="leak">
          <figcaption>Share of each dimension</figcaption>
          <ol>{found.shares.slice(0, 10).map(({ i, share, v }) => <li key={i}><span>z{i}</span><span class="meter"><span style={{ width: `${100 * share}%` }} /></span><span>{text(v, 2)}</span></li>)}</ol>
        </figure>
        <button type="button" onClick={() => { z.value = Float32Array.from(moved!); }}>Take this code as z</button>
      </>}
    </div>
  );
}
