// What the user has chosen: the tab, z, the context, rows and sets; kept in the address, so that a link leads back here.

import { computed, effect, signal } from "@preact/signals";
import { Backend, fetched, open, State, Waiting } from "./backend";
import { Model, Numbers } from "./model";

export const TABS = [
  ["map", "Map"], ["sliders", "Sliders"], ["manifold", "Manifold"], ["reconstruct", "Reconstruct"],
  ["interpolate", "Interpolate"], ["arithmetic", "Arithmetic"], ["health", "Health"], ["learn", "Learn"],
] as const;
export type Tab = (typeof TABS)[number][0];

export const model = signal<Model | null>(null);
export const failure = signal("");
export const waiting = signal("");
export const tab = signal<Tab>("map");
export const z = signal<Float32Array>(new Float32Array(0));
export const context = signal<Float64Array | null>(null);
export const row = signal(0);
export const axes = signal<[number, number] | null>(null); // of the map and the manifold; null is the plane at first
export const setA = signal<number[]>([]);
export const setB = signal<number[]>([]);
export const grouping = signal(0); // which of the model's groupings colours the map
export const groups = computed(() => model.value?.groupings[grouping.value] ?? model.value?.groupings[0] ?? null);
export const hidden = signal<ReadonlySet<number>>(new Set()); // labels left out of the map
export const training = signal<State | null>(null);
export const theme = signal<"auto" | "light" | "dark">("auto");

export interface Decoded { x: Numbers | null; error: string; milliseconds: number }
export const decoded = signal<Decoded>({ x: null, error: "", milliseconds: 0 });

let backend: Backend;
export const answers = () => backend;

export const dims = computed(() => model.value?.facts.order ?? []);

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

export async function start() {
  try {
    const opened = await open();
    backend = opened.backend;
    show(opened.model, true);
    if (opened.model.facts.watching) watch();
  } catch (error) {
    if (!(error instanceof Waiting)) failure.value = (error as Error).message;
    else {
      waiting.value = error.message;
      setTimeout(start, 2000);
    }
  }
}

function show(found: Model, first: boolean) {
  waiting.value = "";
  const given = first ? readAddress(found) : null;
  if (first || z.value.length !== found.latents) {
    z.value = given?.z ?? new Float32Array(found.latents);
    const start = found.facts.context;
    context.value = start && Float64Array.from(start.default);
    row.value = given?.row ?? 0;
    axes.value = given?.axes ?? null;
    if (given?.tab) tab.value = given.tab;
  }
  model.value = found;
}

async function watch() {
  let seen = model.value!.facts.version;
  for (;;) {
    await new Promise((done) => setTimeout(done, 2000));
    try {
      training.value = await backend.state!();
      if (training.value.version !== seen) {
        const fresh = await fetched();
        seen = fresh.facts.version;
        show(fresh, false);
        if (!fresh.facts.watching) return;
      }
    } catch (error) {
      training.value = { version: seen, status: (error as Error).message, epoch: 0, step: 0 };
    }
  }
}

// Decodes z whenever it changes; of those that come while one is decoded, the last.
let decoding = false, again = false;
async function decodeNow() {
  if (!model.value || !backend) return;
  if (decoding) { again = true; return; }
  decoding = true;
  const began = performance.now();
  try {
    const x = await backend.decode(z.value.slice(), 1, context.value);
    const bad = x.some((value) => !Number.isFinite(value));
    decoded.value = {
      x: bad ? null : x,
      error: bad ? "The decoder gives numbers that are not finite here: its weights are damaged, or z is far outside of what it was trained on." : "",
      milliseconds: performance.now() - began,
    };
  } catch (error) {
    decoded.value = { x: null, error: (error as Error).message, milliseconds: 0 };
  }
  decoding = false;
  if (again) { again = false; decodeNow(); }
}

effect(() => {
  void z.value; void context.value; void model.value;
  decodeNow();
});

export function setDimension(i: number, value: number) {
  const next = z.value.slice();
  next[i] = value;
  z.value = next;
}

// The address: #tab=map&z=0.1,-2&axes=0,1&row=3
function readAddress(found: Model) {
  const given = new URLSearchParams(location.hash.slice(1));
  const numbers = (name: string) => given.get(name)?.split(",").map(Number).filter(Number.isFinite) ?? [];
  const whole = (value: number, most: number) => Number.isInteger(value) && value >= 0 && value < most;
  const wanted = numbers("z"), pair = numbers("axes"), point = numbers("row")[0];
  return {
    tab: TABS.find(([id]) => id === given.get("tab"))?.[0],
    z: wanted.length === found.latents ? Float32Array.from(wanted) : null,
    axes: pair.length === 2 && pair.every((i) => whole(i, found.latents)) ? (pair as [number, number]) : null,
    row: point !== undefined && whole(point, found.rowCount) ? point : null,
  };
}

export const address = computed(() => {
  const given = [`tab=${tab.value}`, `z=${Array.from(z.value, (v) => +v.toPrecision(6)).join(",")}`];
  if (axes.value) given.push(`axes=${axes.value.join(",")}`);
  if (row.value) given.push(`row=${row.value}`);
  return `#${given.join("&")}`;
});

let written = "", timer = 0;
effect(() => {
  const wanted = address.value;
  if (!model.value) return;
  clearTimeout(timer);
  timer = window.setTimeout(() => {
    written = wanted;
    try { history.replaceState(null, "", wanted); } catch { location.hash = wanted; }
  }, 150);
});

addEventListener("hashchange", () => {
  if (!model.value || location.hash === written) return;
  const given = readAddress(model.value);
  if (given.tab) tab.value = given.tab;
  if (given.z) z.value = given.z;
  axes.value = given.axes;
  row.value = given.row ?? 0;
});

effect(() => {
  const root = document.documentElement;
  if (theme.value === "auto") delete root.dataset.theme; else root.dataset.theme = theme.value;
});
