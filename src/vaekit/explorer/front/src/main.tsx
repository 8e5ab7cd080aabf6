// The page: a heading, tabs, and the panel that is open.

import { effect } from "@preact/signals";
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { ArithmeticPanel } from "./arithmetic";
import { HealthPanel } from "./health";
import { InterpolatePanel } from "./interpolate";
import { LearnPanel } from "./learn";
import { ManifoldPanel } from "./manifold";
import { MapPanel } from "./map";
import { Model } from "./model";
import { ReconstructPanel } from "./reconstruct";
import { SlidersPanel } from "./sliders";
import { answers, failure, model, start, tab, Tab, TABS, theme, training, waiting } from "./state";

const PANELS: Record<Tab, (given: { model: Model }) => preact.JSX.Element> = {
  map: MapPanel, sliders: SlidersPanel, manifold: ManifoldPanel, reconstruct: ReconstructPanel,
  interpolate: InterpolatePanel, arithmetic: ArithmeticPanel, health: HealthPanel, learn: LearnPanel,
};

function Page() {
  if (failure.value) return <p class="message" role="alert">{failure.value}</p>;
  if (waiting.value) return <p class="message" role="status">{waiting.value}</p>;
  const found = model.value;
  if (!found) return <p class="message" role="status">Loading the model.</p>;
  const { facts } = found, Panel = PANELS[tab.value];
  const move = (e: KeyboardEvent) => {
    const steps: Record<string, number> = { ArrowRight: 1, ArrowLeft: -1 }, now = TABS.findIndex(([id]) => id === tab.value);
    let next = now + (steps[e.key] ?? 0);
    if (e.key === "Home") next = 0;
    if (e.key === "End") next = TABS.length - 1;
    if (next === now) return;
    e.preventDefault();
    tab.value = TABS[(next + TABS.length) % TABS.length][0];
    document.getElementById(`tab-${tab.value}`)?.focus();
  };
  return (
    <>
      <header>
        <div>
          <h1>{facts.title}</h1>
          <p class="note">{facts.facts.filter(([name]) => ["data", "model", "likelihood"].includes(name)).map(([, value]) => value).join("; ")}</p>
        </div>
        <label class="theme">Theme
          <select value={theme.value} onChange={(e) => { theme.value = e.currentTarget.value as typeof theme.value; }}>
            <option value="auto">as the system</option><option value="light">light</option><option value="dark">dark</option>
          </select>
        </label>
      </header>
      {facts.watching && <p class="banner" role="status">{training.value ? `Training: epoch ${training.value.epoch}, step ${training.value.step}. ${training.value.status}` : "Training goes on; this page follows it."}</p>}
      {facts.notice && <p class="banner">{facts.notice}</p>}
      <nav role="tablist" aria-label="Panels" onKeyDown={move}>
        {TABS.map(([id, name]) => (
          <button key={id} id={`tab-${id}`} type="button" role="tab" aria-selected={tab.value === id} aria-controls="panel" tabIndex={tab.value === id ? 0 : -1} onClick={() => { tab.value = id; }}>{name}</button>
        ))}
      </nav>
      <main><div id="panel" role="tabpanel" aria-labelledby={`tab-${tab.value}`}><Panel model={found} /></div></main>
      <footer>vaekit {facts.vaekit}{facts.command && <>; <code>{facts.command}</code></>}</footer>
    </>
  );
}

// For the console of the browser: `await vaekit.decode([[0, 0]])`.
Object.assign(globalThis, {
  vaekit: {
    facts: () => model.value?.facts,
    decode: async (codes: number[][]) => Array.from(await answers().decode(Float32Array.from(codes.flat()), codes.length)),
    encode: async (row: number[]) => {
      const found = await answers().encode(model.value!.numbers(row), 1);
      return { mean: Array.from(found.mean), scale: Array.from(found.scale) };
    },
  },
});

// On a narrow screen the tabs scroll: the open one is in view.
effect(() => {
  const open = tab.value;
  if (model.value) requestAnimationFrame(() => document.getElementById(`tab-${open}`)?.scrollIntoView({ block: "nearest", inline: "nearest" }));
});

const place = document.getElementById("app")!;
place.textContent = "";
render(<Page />, place);
start();
