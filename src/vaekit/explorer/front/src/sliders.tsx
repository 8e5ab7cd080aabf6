// A slider for each dimension of z, those that carry most first.

import { useMemo, useState } from "preact/hooks";
import { normals, text } from "./maths";
import { Model } from "./model";
import { Histogram, Inspector } from "./parts";
import { setDimension, z } from "./state";

const AT_ONCE = 32; // a page of sliders: more would be slow, and nobody moves 512

export function SlidersPanel({ model }: { model: Model }) {
  const { order, kl, dead } = model.facts;
  const [shown, setShown] = useState(AT_ONCE), [seed, setSeed] = useState(0);
  const [locked, setLocked] = useState<ReadonlySet<number>>(new Set());
  const reach = useMemo(() => {
    let most = 4;
    for (const v of model.mean) if (Math.abs(v) > most) most = Math.abs(v);
    return Math.min(1000, Math.ceil(most));
  }, [model]);
  const replace = (make: (i: number) => number) => { z.value = z.value.map((v, i) => (locked.has(i) ? v : make(i))); };
  const random = () => {
    const draw = normals(seed, model.latents);
    replace((i) => draw[i]);
    setSeed(seed + 1);
  };
  return (
    <div class="with-inspector">
      <div class="main">
        <div class="row-of-controls">
          <div class="buttons" role="group" aria-label="All dimensions">
            <button type="button" onClick={() => replace(() => 0)}>Reset to 0</button>
            <button type="button" onClick={random}>Draw z from N(0, I)</button>
          </div>
          <label class="small">Seed <input type="number" min={0} value={seed} onInput={(e) => setSeed(Math.max(0, Math.round(Number(e.currentTarget.value) || 0)))} /></label>
          <span class="note">{order.length} dimensions{kl ? ", by KL" : ", by the variance of their means"}{dead.some(Boolean) && `; ${dead.filter(Boolean).length} carry nothing`}</span>
        </div>
        {model.facts.discrete && <p class="note">z is discrete: the decoder has seen its codes alone, so what lies between them is a guess. Rows have the codes where the histograms stand.</p>}
        <ul class="sliders">
          {order.slice(0, shown).map((i) => (
            <li key={i} class={dead[i] ? "slider dead" : "slider"}>
              <div class="slider-head">
                <label for={`z${i}`}>z{i}</label>
                <span class="note" id={`about-z${i}`}>{dead[i] || (kl ? `KL ${text(kl[i], 3)} nats` : "")}</span>
                <output for={`z${i}`}>{z.value[i].toFixed(2).replace("-", "−")}</output>
                <button type="button" class="lock" aria-pressed={locked.has(i)} aria-label={`Lock z${i}`} onClick={() => {
                  const next = new Set(locked);
                  if (!next.delete(i)) next.add(i);
                  setLocked(next);
                }}>{locked.has(i) ? "locked" : "lock"}</button>
              </div>
              <div class="track">
                <Histogram model={model} dimension={i} reach={reach} />
                <input
                  id={`z${i}`} type="range" min={-reach} max={reach} step={0.05} value={z.value[i]} disabled={locked.has(i)}
                  aria-describedby={`about-z${i}`} onInput={(e) => setDimension(i, Number(e.currentTarget.value))}
                />
              </div>
            </li>
          ))}
        </ul>
        {shown < order.length && <button type="button" onClick={() => setShown(shown + AT_ONCE)}>Show {Math.min(AT_ONCE, order.length - shown)} more of {order.length}</button>}
      </div>
      <Inspector model={model} />
    </div>
  );
}
