// Interpolate: what lies between the codes of two rows.

import { useEffect, useState } from "preact/hooks";
import { repeated } from "./backend";
import { between, distance, text } from "./maths";
import { Model, Numbers } from "./model";
import { RowChooser } from "./parts";
import { Row } from "./row";
import { answers, context, reducedMotion, row, z } from "./state";

const STEPS = 11;

export function InterpolatePanel({ model }: { model: Model }) {
  const [first, setFirst] = useState(Math.min(row.value, model.rowCount - 1)), [second, setSecond] = useState(Math.min(first + 1, model.rowCount - 1));
  const [path, setPath] = useState<"linear" | "spherical">("linear"), [place, setPlace] = useState(0), [playing, setPlaying] = useState(false);
  const [rows, setRows] = useState<Numbers[]>([]), [problem, setProblem] = useState("");

  useEffect(() => {
    let over = false;
    const a = model.code(first), b = model.code(second), codes = new Float32Array(STEPS * model.latents);
    for (let k = 0; k < STEPS; k++) codes.set(between(a, b, k / (STEPS - 1), path === "spherical"), k * model.latents);
    const beside = model.contextOf(first) ?? context.value;
    answers().decode(codes, STEPS, beside && repeated(beside, STEPS)).then((x) => {
      if (over) return;
      const size = model.facts.x.size;
      if (x.some((v) => !Number.isFinite(v))) { setProblem("Some codes on the way decode to numbers that are not finite."); setRows([]); return; }
      setRows(Array.from({ length: STEPS }, (_, k) => x.slice(k * size, (k + 1) * size)));
      setProblem("");
    }, (error: Error) => !over && setProblem(error.message));
    return () => { over = true; };
  }, [model, first, second, path, context.value]);

  useEffect(() => {
    if (!playing) return;
    const timer = setInterval(() => setPlace((now) => (now + 1) % STEPS), 220);
    return () => clearInterval(timer);
  }, [playing]);

  const gaps = rows.slice(1).map((one, k) => distance(one, rows[k]));
  const length = gaps.reduce((a, b) => a + b, 0), top = Math.max(...gaps, 1e-12);
  const small = model.facts.kind === "image";
  return (
    <div class="main">
      <div class="row-of-controls">
        <RowChooser model={model} label="From row" value={first} onChange={setFirst} />
        <RowChooser model={model} label="To row" value={second} onChange={setSecond} />
        <label>Path
          <select value={path} onChange={(e) => setPath(e.currentTarget.value as typeof path)}><option value="linear">linear</option><option value="spherical">spherical</option></select>
        </label>
      </div>
      {problem && <p class="problem" role="alert">{problem}</p>}
      {rows.length > 0 && <>
        <div class="panes">
          <figure class="pane"><figcaption>row {first}{model.labels && `, ${model.labelOf(first)}`}</figcaption><Row model={model} x={model.row(first)} label={`Row ${first}`} /></figure>
          <figure class="pane"><figcaption>{Math.round((100 * place) / (STEPS - 1))} % of the way</figcaption><Row model={model} x={rows[place]} decoded label="Decoded on the way" /></figure>
          <figure class="pane"><figcaption>row {second}{model.labels && `, ${model.labelOf(second)}`}</figcaption><Row model={model} x={model.row(second)} label={`Row ${second}`} /></figure>
        </div>
        <div class="row-of-controls">
          <label class="grow">Place on the way
            <input type="range" min={0} max={STEPS - 1} value={place} aria-valuetext={`${Math.round((100 * place) / (STEPS - 1))} percent`} onInput={(e) => setPlace(Number(e.currentTarget.value))} />
          </label>
          {!reducedMotion() && <button type="button" aria-pressed={playing} onClick={() => setPlaying(!playing)}>{playing ? "Stop" : "Play"}</button>}
          <button type="button" onClick={() => { z.value = between(model.code(first), model.code(second), place / (STEPS - 1), path === "spherical"); }}>Take this code as z</button>
        </div>
        {small && <div class="strip">{rows.map((x, k) => <button key={k} type="button" class={k === place ? "chosen" : ""} aria-label={`Step ${k + 1} of ${STEPS}`} onClick={() => setPlace(k)}><Row model={model} x={x} decoded label={`Step ${k + 1}`} /></button>)}</div>}
        <figure class="gaps">
          <figcaption>Distance from one decoded step to the next; in all {text(length, 4)}</figcaption>
          <svg viewBox={`0 0 ${gaps.length * 20} 60`} preserveAspectRatio="none" role="img" aria-label={`Distances between decoded steps: ${gaps.map((g) => text(g, 2)).join(", ")}`}>
            {gaps.map((gap, k) => <rect key={k} x={k * 20 + 1} width={18} y={60 - (56 * gap) / top} height={(56 * gap) / top} />)}
          </svg>
        </figure>
      </>}
    </div>
  );
}
