// The model's answers, from onnxruntime in this page or from the server that gave the page.

import { decompress } from "fzstd";
import * as ort from "onnxruntime-web/wasm";
import { normals } from "./maths";
import { Facts, FORMAT, Model, Numbers } from "./model";
import { canSound, soundOf, wav } from "./sound";

export interface Bound {
  elbo: number | null;
  error: number | null;
  log_likelihood: number | null;
  kl: number | null;
  z: Float32Array;
}

export interface State { version: string; status: string; epoch: number; step: number }

export interface Backend {
  decode(z: Float32Array, n: number, context?: Float64Array | null): Promise<Numbers>;
  encode(x: Numbers, n: number, context?: Float64Array | null): Promise<{ mean: Float32Array; scale: Float32Array }>;
  bound(x: Numbers, draws: number, seed: number, context?: Float64Array | null): Promise<Bound>;
  sound?(x: Numbers): Promise<Blob>;
  state?(): Promise<State>;
}

const MOST_ROWS = 256; // of one request
const MOST_BYTES = 4_000_000;

export class Waiting extends Error {}

export async function open(): Promise<{ model: Model; backend: Backend }> {
  const inline = document.getElementById("model");
  if (inline) {
    const facts = check(JSON.parse(inline.textContent!));
    const model = new Model(facts, (await block("bin"))!.buffer as ArrayBuffer);
    return { model, backend: new StaticBackend(facts, model) };
  }
  const model = await fetched();
  return { model, backend: new RemoteBackend(model.facts) };
}

export async function fetched(): Promise<Model> {
  const answer = await ask("model.json");
  const found = await answer.json();
  if (answer.status === 202) throw new Waiting(found.waiting);
  const facts = check(found);
  return new Model(facts, await (await ask(facts.bin ?? "model.bin")).arrayBuffer());
}

function check(facts: Facts): Facts {
  if (facts.format_version !== FORMAT) {
    throw new Error(`this page reads format ${FORMAT} of a run's facts, and these are of ${facts.format_version}: build the page again`);
  }
  return facts;
}

async function ask(path: string, init?: RequestInit): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(path, init);
  } catch {
    throw new Error("the server does not answer: is `vaekit explore` still running?");
  }
  if (!answer.ok) {
    const text = await answer.text();
    let why = text.slice(0, 300);
    try { why = JSON.parse(text).error ?? why; } catch { /* not JSON: shown as it is */ }
    throw new Error(why || `the server answered ${answer.status}`);
  }
  return answer;
}

// Rows in groups of a bounded size; part(start, rows) gives the numbers of a group.
async function grouped<T extends Numbers>(
  n: number, most: number, make: (size: number) => T, part: (start: number, rows: number) => Promise<T>,
): Promise<T> {
  if (n <= most) return part(0, n);
  let out: T | null = null;
  for (let start = 0; start < n; start += most) {
    const rows = Math.min(most, n - start);
    const found = await part(start, rows);
    out ??= make((found.length / rows) * n);
    out.set(found as never, (found.length / rows) * start);
  }
  return out!;
}

function checkFinite(z: Float32Array) {
  if (!z.every(Number.isFinite)) throw new Error("This code has numbers that are not finite: the encoder's weights are damaged.");
}

const slice = (context: Float64Array | null | undefined, start: number, rows: number, n: number) =>
  context ? context.slice((start * context.length) / n, ((start + rows) * context.length) / n) : null;

class RemoteBackend implements Backend {
  sound?: (x: Numbers) => Promise<Blob>;

  constructor(private facts: Facts) {
    if (facts.kind === "sound") {
      this.sound = async (x) => (await this.post("api/sound", [x], 1)).blob();
    }
  }

  private post(path: string, parts: (Numbers | null)[], rows: number): Promise<Response> {
    const body = new Blob(parts.filter((part) => part) as unknown as BlobPart[]);
    return ask(path, { method: "POST", body, headers: { "X-Rows": String(rows) } });
  }

  private context(n: number, context?: Float64Array | null): Float64Array | null {
    if (!this.facts.context) return null;
    return context ?? repeated(Float64Array.from(this.facts.context.default), n);
  }

  private read(buffer: ArrayBuffer): Numbers {
    return this.facts.x.dtype === "float64" ? new Float64Array(buffer) : new Float32Array(buffer);
  }

  private get most() {
    return Math.max(1, Math.min(MOST_ROWS, Math.floor(MOST_BYTES / (8 * Math.max(this.facts.x.size, this.facts.latents)))));
  }

  async decode(z: Float32Array, n: number, context?: Float64Array | null) {
    checkFinite(z);
    const all = this.context(n, context), d = this.facts.latents;
    const make = (size: number): Numbers => this.facts.x.dtype === "float64" ? new Float64Array(size) : new Float32Array(size);
    return grouped<Numbers>(n, this.most, make, async (start, rows) => {
      const part = z.slice(start * d, (start + rows) * d);
      return this.read(await (await this.post("api/decode", [part, slice(all, start, rows, n)], rows)).arrayBuffer());
    });
  }

  async encode(x: Numbers, n: number, context?: Float64Array | null) {
    const answer = await this.post("api/encode", [x, this.context(n, context)], n);
    const both = new Float32Array(await answer.arrayBuffer());
    return { mean: both.slice(0, both.length / 2), scale: both.slice(both.length / 2) };
  }

  async bound(x: Numbers, draws: number, seed: number, context?: Float64Array | null): Promise<Bound> {
    const answer = await this.post(`api/bound?draws=${draws}&seed=${seed}`, [x, this.context(1, context)], 1);
    const found = await answer.json();
    return { ...found, z: Float32Array.from(found.z.flat()) };
  }

  async state(): Promise<State> {
    return (await ask("api/state")).json();
  }
}

export const repeated = (one: Float64Array, n: number) => {
  const all = new Float64Array(one.length * n);
  for (let i = 0; i < n; i++) all.set(one, i * one.length);
  return all;
};

function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const native = (Uint8Array as unknown as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> }).fromBase64;
  if (native) return native.call(Uint8Array, base64);
  const text = atob(base64), out = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
  return out;
}

async function block(name: string): Promise<Uint8Array | null> {
  const element = document.getElementById(name);
  if (!element) return null;
  const packed = bytesOf(element.textContent!);
  element.textContent = "";
  if (name === "wasm") return decompress(packed);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

class StaticBackend implements Backend {
  private busy: Promise<unknown>;
  private failure = "";
  private sessions: Record<string, ort.InferenceSession> = {};
  sound?: (x: Numbers) => Promise<Blob>;

  // The page is drawn before the runtime is there: what is asked for meanwhile waits.
  constructor(private facts: Facts, model: Model) {
    const about = facts.x.sound;
    if (about && canSound(about)) {
      const filters = model.array(about.filters) as Float32Array;
      this.sound = async (x) => wav(await soundOf(x, about, filters), about.rate);
    }
    this.busy = new Promise((painted) => setTimeout(painted, 30)).then(() => this.load())
      .catch((error: Error) => { this.failure = error.message; });
  }

  private async load() {
    const wasm = await block("wasm");
    if (!wasm) throw new Error("this file lacks onnxruntime's WebAssembly, so it cannot run the model: export it again");
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.proxy = false;
    ort.env.wasm.wasmBinary = wasm as never;
    ort.env.logLevel = "error";
    const weights = (await block("weights"))!;
    for (const name of ["decoder", "encoder", "terms"]) {
      const graph = await block(name);
      if (!graph) continue;
      this.sessions[name] = await ort.InferenceSession.create(graph, {
        executionProviders: ["wasm"], logSeverityLevel: 3, externalData: [{ path: "weights", data: weights }],
      });
    }
  }

  // One run at a time: a session of one thread answers nobody else meanwhile.
  private run(name: string, inputs: Record<string, ort.Tensor>): Promise<Record<string, ort.Tensor>> {
    const next = this.busy.then(async () => {
      const session = this.sessions[name];
      if (!session) throw new Error(this.failure || `this file has no ${name} of the model: export it again`);
      const given = Object.fromEntries(Object.entries(inputs).filter(([key]) => session.inputNames.includes(key)));
      return await session.run(given) as Record<string, ort.Tensor>;
    });
    this.busy = next.catch(() => undefined);
    return next;
  }

  private inputs(n: number, z: Float32Array | null, x: Numbers | null, context?: Float64Array | null) {
    const found: Record<string, ort.Tensor> = {};
    if (z) found.z = new ort.Tensor("float32", z, [n, this.facts.latents]);
    if (x) found.x = new ort.Tensor(this.facts.x.dtype, x as never, [n, ...this.facts.x.shape]);
    if (this.facts.context) {
      const beside = context ?? repeated(Float64Array.from(this.facts.context.default), n);
      found.context = new ort.Tensor("float64", beside, [n, this.facts.context.size]);
    }
    return found;
  }

  async decode(z: Float32Array, n: number, context?: Float64Array | null) {
    checkFinite(z);
    const d = this.facts.latents;
    const make = (size: number): Numbers => this.facts.x.dtype === "float64" ? new Float64Array(size) : new Float32Array(size);
    return grouped<Numbers>(n, MOST_ROWS, make, async (start, rows) => {
      const inputs = this.inputs(rows, z.slice(start * d, (start + rows) * d), null, slice(context, start, rows, n));
      return (await this.run("decoder", inputs)).mean.data as Numbers;
    });
  }

  async encode(x: Numbers, n: number, context?: Float64Array | null) {
    const found = await this.run("encoder", this.inputs(n, null, x, context));
    return { mean: Float32Array.from(found.mean.data as Float32Array), scale: Float32Array.from(found.scale.data as Float32Array) };
  }

  async bound(x: Numbers, draws: number, seed: number, context?: Float64Array | null): Promise<Bound> {
    const d = this.facts.latents;
    const { mean, scale } = await this.encode(x, 1, context);
    const noise = normals(seed, draws * d);
    const z = noise.map((e, i) => mean[i % d] + scale[i % d] * e);
    if (!this.sessions.terms || this.facts.posterior !== "gaussian") return { elbo: null, error: null, log_likelihood: null, kl: null, z };
    const rows = this.facts.x.dtype === "float64" ? new Float64Array(x.length * draws) : new Float32Array(x.length * draws);
    for (let k = 0; k < draws; k++) rows.set(x, k * x.length);
    const all = this.facts.context ? repeated(context ?? Float64Array.from(this.facts.context.default), draws) : null;
    const terms = await this.run("terms", this.inputs(draws, z, rows, all));
    const likelihood = Array.from(terms.log_likelihood.data as Float32Array, Number);
    const prior = Array.from(terms.log_prior.data as Float32Array, Number);
    const elbos = likelihood.map((value, k) => {
      let logQ = 0;
      for (let i = 0; i < d; i++) {
        logQ -= 0.5 * noise[k * d + i] ** 2 + Math.log(scale[i]) + 0.5 * Math.log(2 * Math.PI);
      }
      return value + prior[k] - logQ;
    });
    const average = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    const elbo = average(elbos), log_likelihood = average(likelihood);
    const error = Math.sqrt(average(elbos.map((e) => (e - elbo) ** 2)) / Math.max(1, draws - 1));
    let kl = log_likelihood - elbo;
    if (this.facts.prior === "standard") {
      kl = 0;
      for (let i = 0; i < d; i++) kl += 0.5 * (mean[i] ** 2 + scale[i] ** 2 - 1) - Math.log(scale[i]);
    }
    return { elbo: finite(elbo), error: finite(error), log_likelihood: finite(log_likelihood), kl: finite(kl), z };
  }
}

const finite = (value: number) => (Number.isFinite(value) ? value : null);
