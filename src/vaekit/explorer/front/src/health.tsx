// Health: what was found, how training went, and whether the codes are as the prior wants them.

import { useMemo } from "preact/hooks";
import { magma } from "./colours";
import { correlations, text } from "./maths";
import { Model } from "./model";
import { Curves } from "./parts";
import { tab, Tab, TABS } from "./state";

const PANELS: Record<string, string[]> = {
  loss: ["train_loss", "valid_loss"], distortion: ["train_distortion", "valid_distortion"], rate: ["train_rate", "valid_rate"],
};
const TITLES: Record<string, string> = { loss: "Loss, the negative ELBO", distortion: "Distortion, −ln p(x|z)", rate: "Rate, KL(q(z|x) || p(z))" };

export function HealthPanel({ model }: { model: Model }) {
  const { findings, history, estimates, units, parity } = model.facts;
  const charts = useMemo(() => Object.entries(PANELS).map(([name, wanted]) => ({
    name, lines: history.lines.filter((line) => wanted.includes(line.name)).map((line) => ({ name: line.label, values: line.values })),
  })).filter(({ lines }) => lines.length), [history]);
  return (
    <div class="main">
      <section aria-labelledby="findings">
        <h2 id="findings">Findings</h2>
        {findings.length === 0 && <p>Nothing was found to be wrong with this run.</p>}
        <ul class="findings">
          {findings.map((one, i) => (
            <li key={i} class={one.severity}><strong>{one.severity}</strong> <code>{one.code}</code> <span>{one.text}</span>
              {TABS.some(([id]) => id === one.panel && id !== "health") && <button type="button" onClick={() => { tab.value = one.panel as Tab; }}>Show</button>}
            </li>
          ))}
        </ul>
      </section>
      <section aria-labelledby="estimates">
        <h2 id="estimates">On {model.n} rows</h2>
        <dl class="terms">{estimates.map(({ name, text: value }) => <div key={name}><dt>{name}</dt><dd>{value.replace(/-/g, "−")}</dd></div>)}</dl>
        {units.rate !== null && units.distortion !== null && <RatePlot rate={units.rate} distortion={units.distortion} />}
      </section>
      {charts.length > 0 && (
        <section aria-labelledby="curves"><h2 id="curves">Training</h2>
          <div class="charts">{charts.map(({ name, lines }) => <Curves key={name} title={TITLES[name]} unit="nats" x={history.x} lines={lines} />)}</div>
        </section>
      )}
      <section aria-labelledby="kl"><h2 id="kl">KL of each dimension</h2><KlBars model={model} /></section>
      <section aria-labelledby="aggregate"><h2 id="aggregate">All codes together against N(0, I)</h2><Aggregate model={model} /></section>
      {model.latents > 1 && <section aria-labelledby="correlation"><h2 id="correlation">Correlation of the means</h2><Correlation model={model} /></section>}
      {parity && (
        <section aria-labelledby="parity"><h2 id="parity">This file against PyTorch</h2>
          <p>On {parity.rows} rows the largest differences are {Object.entries(parity.differences).map(([name, gap]) => `${name} ${gap.toExponential(1).replace(/-/g, "−")}`).join(", ")}; at most {parity.tolerance.toExponential(0).replace("-", "−")} is taken for rounding.</p>
        </section>
      )}
      <section aria-labelledby="about"><h2 id="about">The run</h2>
        <dl class="terms facts">{model.facts.facts.map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}{model.facts.status && <div><dt>status</dt><dd>{model.facts.status}</dd></div>}</dl>
      </section>
    </div>
  );
}

function RatePlot({ rate, distortion }: { rate: number; distortion: number }) {
  const total = rate + distortion, share = distortion > 0 && rate >= 0 ? rate / total : 0;
  return (
    <figure class="gaps">
      <figcaption>Rate {text(rate, 4)} and distortion {text(distortion, 4)} nats: their sum is the negative ELBO{share > 0 && `, of which ${(100 * share).toFixed(share < 0.1 ? 1 : 0)} % go through z`}</figcaption>
      {share > 0 && <div class="meter" aria-hidden="true"><span style={{ width: `${100 * share}%` }} /></div>}
    </figure>
  );
}

function KlBars({ model }: { model: Model }) {
  const { kl, order, threshold } = model.facts;
  if (!kl) return <p>The KL of single dimensions has no closed form for this posterior and prior.</p>;
  const shown = order.slice(0, 128), top = Math.max(kl[order[0]], 3 * threshold), active = kl.filter((v) => v > threshold).length;
  const step = 640 / shown.length, named = shown.length <= 32;
  return (
    <figure class="bars">
      <figcaption>{active} of {kl.length} dimensions are active, with a KL above {threshold} nats{shown.length < kl.length && `; the ${shown.length} largest are shown`}</figcaption>
      <svg viewBox="0 0 700 190" role="img" aria-label={`KL in nats, largest first: ${shown.slice(0, 12).map((i) => `z${i} ${text(kl[i], 2)}`).join(", ")}`}>
        {[0, 0.5, 1].map((share) => <g key={share}><line x1="54" x2="694" y1={160 - 140 * share} y2={160 - 140 * share} class="rule" /><text x="48" y={164 - 140 * share} text-anchor="end">{text(top * share, 2)}</text></g>)}
        {shown.map((i, place) => <g key={i}><rect class={kl[i] > threshold ? "on" : "off"} x={54 + place * step + 0.1 * step} width={0.8 * step} y={160 - (140 * kl[i]) / top} height={Math.max(0.5, (140 * kl[i]) / top)} />{named && <text x={54 + (place + 0.5) * step} y="178" text-anchor="middle">{i}</text>}</g>)}
        <line x1="54" x2="694" y1={160 - (140 * threshold) / top} y2={160 - (140 * threshold) / top} class="threshold" />
        <text x="8" y="90" transform="rotate(-90 8 90)" text-anchor="middle" dy="6">nats</text>
      </svg>
    </figure>
  );
}

function Aggregate({ model }: { model: Model }) {
  const { aggregate, order } = model.facts;
  return (
    <div class="whole">
      <table>
        <thead><tr><th scope="col">dimension</th><th scope="col">mean (0)</th><th scope="col">variance (1)</th></tr></thead>
        <tbody>{order.slice(0, 16).map((i) => {
          const m = aggregate.mean[i], v = aggregate.variance[i];
          const odd = m !== null && v !== null && (Math.abs(m) > 0.5 || v > 2 || v < 0.5);
          return <tr key={i} class={odd ? "differs" : ""}><th scope="row">z{i}</th><td>{text(m, 2)}</td><td>{text(v, 2)}{odd && <span class="note"> far from N(0, 1)</span>}</td></tr>;
        })}</tbody>
      </table>
      {order.length > 16 && <p class="note">The 16 dimensions that carry most.</p>}
    </div>
  );
}

function Correlation({ model }: { model: Model }) {
  const dims = model.facts.order.slice(0, 24);
  const matrix = useMemo(() => correlations(model.mean, model.latents, dims), [model]);
  const n = dims.length, side = 20;
  let largest = 0, pair: [number, number] = [0, 0];
  matrix.forEach((line, a) => line.forEach((v, b) => { if (a < b && Math.abs(v) > Math.abs(largest)) { largest = v; pair = [dims[a], dims[b]]; } }));
  return (
    <figure class="matrix">
      <figcaption>The largest is {text(largest, 2)}, of z{pair[0]} and z{pair[1]}. Dark is none, bright is 1 or −1.{model.latents > n && ` The ${n} dimensions that carry most.`}</figcaption>
      <svg viewBox={`-28 -4 ${n * side + 32} ${n * side + 24}`} role="img" aria-label={`Correlations of ${n} dimensions; the largest is ${text(largest, 2)}`}>
        {matrix.map((line, a) => line.map((v, b) => {
          const [r, g, bl] = magma(a === b ? 0 : Math.abs(v)).map((c) => Math.round(255 * c));
          return <rect key={`${a}-${b}`} x={b * side} y={a * side} width={side - 1} height={side - 1} fill={a === b ? "none" : `rgb(${r},${g},${bl})`} />;
        }))}
        {dims.map((i, a) => <g key={i}><text x="-6" y={a * side + 14} text-anchor="end">z{i}</text><text x={a * side + side / 2} y={n * side + 14} text-anchor="middle">{i}</text></g>)}
      </svg>
    </figure>
  );
}
