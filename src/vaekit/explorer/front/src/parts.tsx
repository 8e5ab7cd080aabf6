// What several panels use: the code that is looked at, choosers of rows and axes, curves and bars.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ComponentChildren } from "preact";
import uPlot from "uplot";
import { colourOf, isDark, palette, pathOf, shapeOf } from "./colours";
import { column, text } from "./maths";
import { Model } from "./model";
import { Row } from "./row";
import { address, axes, context, decoded, grouping, groups, hidden, setA, setB, theme, z } from "./state";

export function download(name: string, href: string) {
  const link = document.createElement("a");
  link.download = name;
  link.href = href;
  link.click();
}

// Distance from z to the nearest code, in standard deviations of that code's posterior, or of the prior where it has none.
export function nearest(model: Model, code: Float32Array): { point: number; distance: number } {
  const d = model.latents;
  let best = Infinity, point = -1;
  for (let i = 0; i < model.n; i++) {
    let sum = 0;
    for (let j = 0; j < d && sum < best; j++) {
      const scale = Math.max(model.scale[i * d + j], 0.05);
      sum += ((code[j] - model.mean[i * d + j]) / scale) ** 2;
    }
    if (sum < best) { best = sum; point = i; }
  }
  return { point, distance: Math.sqrt(best / d) };
}

export function Inspector({ model, children }: { model: Model; children?: ComponentChildren }) {
  const found = decoded.value, near = nearest(model, z.value);
  const far = near.distance > 3;
  return (
    <section class="inspector" aria-label="Decoded code">
      <h2>Decoded</h2>
      <div aria-live="polite" class="result">
        {found.error ? <p class="problem" role="alert">{found.error}</p> : found.x && <Row model={model} x={found.x} decoded large label="Mean of p(x|z) at z" />}
      </div>
      <p class="badges">
        <span class={far ? "badge warn" : "badge"}>{far ? "far from the data" : "near the data"}: {text(near.distance, 2)} σ</span>
        {model.labels && near.point >= 0 && <span class="badge">nearest code: {model.labelOf(near.point)}</span>}
      </p>
      <ContextChooser model={model} />
      {children}
      <Copying model={model} />
    </section>
  );
}

export function ContextChooser({ model }: { model: Model }) {
  const about = model.facts.context;
  if (!about || !context.value) return null;
  const change = (places: number[], values: number[]) => {
    const next = context.value!.slice();
    places.forEach((place, i) => { next[place] = values[i]; });
    context.value = next;
  };
  return (
    <fieldset class="context">
      <legend>Context</legend>
      {about.groups.map(({ name, places }) => places.length > 1 ? (
        <label key={name}>{name}
          <select value={places.findIndex((place) => context.value![place] > 0.5)} onChange={(e) => {
            const chosen = Number(e.currentTarget.value);
            change(places, places.map((_, i) => Number(i === chosen)));
          }}>
            {places.map((place, i) => <option key={place} value={i}>{about.names[place].replace(`${name}=`, "")}</option>)}
          </select>
        </label>
      ) : (
        <label key={name}>{name}
          <input type="number" step="any" value={context.value![places[0]]} onChange={(e) => {
            const value = Number(e.currentTarget.value);
            if (Number.isFinite(value)) change(places, [value]);
          }} />
        </label>
      ))}
    </fieldset>
  );
}

function Copying({ model }: { model: Model }) {
  const [said, say] = useState("");
  const numbers = Array.from(z.value, (v) => +v.toPrecision(6));
  const run = model.facts.run || "RUN";
  const forms: Record<string, string> = {
    JSON: JSON.stringify(numbers),
    NumPy: `np.array([${numbers.join(", ")}], dtype=np.float32)`,
    command: `python -c "import numpy as np; np.save('z.npy', np.array([[${numbers.join(", ")}]], np.float32))" && vaekit decode ${run} z.npy --mean --out decoded.npy`,
    link: location.href.split("#")[0] + address.value,
  };
  const copy = async (name: string) => {
    try {
      await navigator.clipboard.writeText(forms[name]);
      say(`Copied as ${name}.`);
    } catch {
      say(forms[name]);
    }
  };
  return (
    <div class="copying">
      <span id="copy-z">Copy z as</span>
      <div role="group" aria-labelledby="copy-z" class="buttons">
        {Object.keys(forms).map((name) => <button key={name} type="button" onClick={() => copy(name)}>{name}</button>)}
        {model.facts.kind === "image" && <button type="button" onClick={() => {
          const picture = document.querySelector<HTMLCanvasElement>(".inspector canvas");
          if (picture) download("decoded.png", picture.toDataURL("image/png"));
        }}>PNG</button>}
      </div>
      <p class="said" role="status">{said}</p>
    </div>
  );
}

export function RowChooser({ model, value, onChange, label }: { model: Model; value: number; onChange: (row: number) => void; label: string }) {
  const most = model.rowCount - 1;
  return (
    <label class="chooser">{label}
      <input type="number" min={0} max={most} value={value} onInput={(e) => {
        const chosen = Math.round(Number(e.currentTarget.value));
        if (chosen >= 0 && chosen <= most) onChange(chosen);
      }} />
      <span class="note">{model.labels ? `of 0 to ${most}; ${model.facts.label_name} ${model.labelOf(value)}` : `of 0 to ${most}`}</span>
    </label>
  );
}

export function AxesChooser({ model, plane }: { model: Model; plane: boolean }) {
  const { order, kl } = model.facts;
  if (model.latents < 2) return null;
  const name = (i: number) => `z${i}${kl ? ` (${text(kl[i], 2)} nats)` : ""}`;
  const options = order.slice(0, 64);
  const pair = axes.value ?? [order[0], order[1]];
  const choose = (which: 0 | 1, value: number) => {
    const next: [number, number] = [pair[0], pair[1]];
    next[which] = value;
    axes.value = next;
  };
  return (
    <div class="row-of-controls">
      {plane && model.latents > 2 && (
        <label>Axes
          <select value={axes.value ? "dimensions" : "plane"} onChange={(e) => { axes.value = e.currentTarget.value === "plane" ? null : [order[0], order[1]]; }}>
            <option value="plane">principal components</option>
            <option value="dimensions">two dimensions</option>
          </select>
        </label>
      )}
      {(!plane || axes.value || model.latents === 2) && ([0, 1] as const).map((which) => (
        <label key={which}>{which ? "Up" : "Across"}
          <select value={pair[which]} onChange={(e) => choose(which, Number(e.currentTarget.value))}>
            {options.map((i) => <option key={i} value={i}>{name(i)}</option>)}
          </select>
        </label>
      ))}
    </div>
  );
}

// Of the means in one dimension; it is not drawn anew when z moves.
export function Histogram({ model, dimension, reach }: { model: Model; dimension: number; reach: number }) {
  return useMemo(() => {
    const bins = 36, values = column(model.mean, model.latents, dimension), counts = new Array<number>(bins).fill(0);
    for (const v of values) counts[Math.max(0, Math.min(bins - 1, Math.floor(((v + reach) / (2 * reach)) * bins)))]++;
    const top = Math.max(1, ...counts);
    const curve = Array.from({ length: 121 }, (_, i) => {
      const x = reach * (i / 60 - 1);
      return `${i ? "L" : "M"}${1.5 * i} ${30 - 27 * Math.exp(-0.5 * x * x)}`;
    }).join("");
    return (
      <svg class="histogram" viewBox="0 0 180 30" preserveAspectRatio="none" aria-hidden="true">
        {counts.map((count, i) => <rect key={i} x={(180 / bins) * i} width={180 / bins - 0.6} y={30 - (27 * count) / top} height={(27 * count) / top} />)}
        {model.facts.prior === "standard" && <path d={curve} />}
      </svg>
    );
  }, [model, dimension, reach]);
}

export interface Curve { name: string; values: (number | null)[] }

export function Curves({ x, lines, title, unit }: { x: number[]; lines: Curve[]; title: string; unit: string }) {
  const place = useRef<HTMLDivElement>(null);
  void theme.value;
  const dark = isDark();
  useEffect(() => {
    const grid = dark ? "#363d47" : "#e3e6ea", ink = dark ? "#c5ccd6" : "#4a5360", element = place.current!;
    const axis = { stroke: ink, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid }, font: "12px system-ui, sans-serif" };
    const plot = new uPlot(
      {
        width: Math.max(240, element.clientWidth), height: 240,
        scales: { x: { time: false } },
        axes: [{ ...axis, label: "epoch", labelSize: 18, labelFont: "12px system-ui, sans-serif" }, { ...axis, size: 64, label: unit, labelSize: 18, labelFont: "12px system-ui, sans-serif" }],
        series: [{ label: "epoch" }, ...lines.map((line, i) => ({ label: line.name, stroke: palette()[i], width: 2, dash: i % 2 ? [6, 4] : undefined, points: { show: x.length < 4 } }))],
        legend: { live: true },
        cursor: { drag: { x: false, y: false } },
      },
      [x, ...lines.map((line) => line.values)] as uPlot.AlignedData,
      element,
    );
    const fit = new ResizeObserver(() => plot.setSize({ width: Math.max(240, element.clientWidth), height: 240 }));
    fit.observe(element);
    return () => { fit.disconnect(); plot.destroy(); };
  }, [x, lines, dark]);
  const last = lines.map((line) => `${line.name} ${text(line.values.at(-1), 4)}`).join(", ");
  return (
    <figure class="curves">
      <figcaption>{title}</figcaption>
      <div ref={place} role="img" aria-label={`${title} over ${x.length} epochs; in the last one ${last} ${unit}`} />
    </figure>
  );
}

// By what the points are told apart, where there is a choice.
export function GroupingChooser({ model, label }: { model: Model; label: string }) {
  if (model.groupings.length < 2) return null;
  const choose = (place: number) => {
    grouping.value = place;
    hidden.value = new Set();
    setA.value = setB.value = [];
  };
  return (
    <label>{label}
      <select value={Math.min(grouping.value, model.groupings.length - 1)} onChange={(e) => choose(Number(e.currentTarget.value))}>
        {model.groupings.map(({ name }, place) => <option key={place} value={place}>{name}</option>)}
      </select>
    </label>
  );
}

export function Legend({ off, onToggle }: { off: ReadonlySet<number>; onToggle: (label: number) => void }) {
  if (!groups.value) return null;
  const { name: by, names, of } = groups.value, present = new Set(of);
  void theme.value;
  return (
    <div class="legend" role="group" aria-label={`Points shown, by ${by}`}>
      {names.slice(0, 41).map((name, i) => present.has(i) && (
        <button key={i} type="button" aria-pressed={!off.has(i)} onClick={() => onToggle(i)}>
          <svg viewBox="-1.1 -1.1 2.2 2.2" aria-hidden="true"><path d={pathOf(shapeOf(i))} fill={colourOf(i)} /></svg>{name}
        </button>
      ))}
    </div>
  );
}
