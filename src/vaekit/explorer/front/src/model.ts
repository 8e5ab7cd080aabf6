// What the page is given of a run, and how it is read: from the page itself, or from the server that gave the page.

export type Kind = "image" | "sound" | "series" | "table" | "vector";
export type Numbers = Float32Array | Float64Array;

export interface ArrayRef {
  dtype: "float32" | "float64" | "uint8" | "uint16" | "int32";
  shape: number[];
  offset: number;
  bytes: number;
}

export interface Column {
  name: string;
  kind: string;
  categories: string[] | null;
  integer: boolean;
  decimals: number | null;
  low: number;
  high: number;
}

export interface AboutX {
  dtype: "float32" | "float64";
  size: number;
  shape: number[];
  missing: boolean;
  binarised_above: number | null;
  image?: {
    height: number; width: number; channels: number; order: string;
    low: number; high: number; decoded_low: number; decoded_high: number; levels: number | null;
  };
  series?: { steps: number; channels: number; order: string; names: string[] | null };
  sound?: {
    frames: number; bands: number; order: string; rate: number; low: number; high: number; seconds: number;
    window: number; hop: number; length: number; floor: number; filters: ArrayRef;
  };
  columns?: Column[];
}

export interface Context {
  size: number;
  names: string[];
  kind: "label" | "columns";
  groups: { name: string; places: number[] }[];
  default: number[];
  of: string[];
}

export interface Line { name: string; label: string; unit: string; values: (number | null)[] }

export interface Facts {
  format_version: number;
  title: string;
  vaekit: string;
  run: string;
  command: string;
  facts: [string, string][];
  notice: string;
  kind: Kind;
  x: AboutX;
  context: Context | null;
  latents: number;
  discrete: boolean;
  kl: number[] | null;
  order: number[];
  dead: string[];
  threshold: number;
  prior: string;
  posterior: string;
  points: {
    n: number; of: number; mean: ArrayRef; scale: ArrayRef; row: ArrayRef;
    label: ArrayRef | null; cells: ArrayRef | null; elbo: ArrayRef | null; kl: ArrayRef | null; log_likelihood: ArrayRef | null;
  };
  labels: string[] | null;
  label_name: string;
  plane: { kind: string; axes: string[]; directions: ArrayRef; centre: ArrayRef };
  thumbnails: { array: ArrayRef } | null;
  rows: { array: ArrayRef; context: ArrayRef | null };
  history: { x: number[]; lines: Line[] };
  findings: { code: string; severity: string; text: string; panel: string }[];
  estimates: { name: string; text: string }[];
  units: { rate: number | null; distortion: number | null };
  aggregate: { mean: (number | null)[]; variance: (number | null)[] };
  parity: { rows: number; tolerance: number; differences: Record<string, number> } | null;
  static: { encoder: boolean; decoder: boolean; terms: boolean; why: string } | null;
  status: string;
  watching: boolean;
  version: string;
  bin?: string;
}

// The facts with their arrays.
export class Model {
  readonly mean: Float32Array;
  readonly scale: Float32Array;
  readonly labels: Uint16Array | null;
  readonly elbo: Float32Array | null;
  readonly rows: Numbers;
  readonly rowCount: number;
  readonly contexts: Float64Array | null;
  readonly rowNumbers: Int32Array;

  readonly groupings: Grouping[];

  constructor(readonly facts: Facts, readonly bytes: ArrayBuffer) {
    this.mean = this.array(facts.points.mean) as Float32Array;
    this.scale = this.array(facts.points.scale) as Float32Array;
    this.labels = facts.points.label && (this.array(facts.points.label) as Uint16Array);
    this.elbo = facts.points.elbo && (this.array(facts.points.elbo) as Float32Array);
    this.rows = this.array(facts.rows.array) as Numbers;
    this.rowCount = facts.rows.array.shape[0];
    this.contexts = facts.rows.context && (this.array(facts.rows.context) as Float64Array);
    this.rowNumbers = this.array(facts.points.row) as Int32Array;
    this.groupings = groupings(this);
  }

  array(ref: ArrayRef) {
    const kinds = {
      float32: Float32Array, float64: Float64Array, uint8: Uint8Array, uint16: Uint16Array, int32: Int32Array,
    };
    const kind = kinds[ref.dtype];
    return new kind(this.bytes, ref.offset, ref.bytes / kind.BYTES_PER_ELEMENT);
  }

  get n() { return this.facts.points.n; }
  get latents() { return this.facts.latents; }

  code(point: number): Float32Array {
    return this.mean.slice(point * this.latents, (point + 1) * this.latents);
  }

  row(point: number): Numbers {
    const size = this.facts.x.size;
    return this.rows.slice(point * size, (point + 1) * size);
  }

  contextOf(point: number): Float64Array | null {
    if (!this.contexts) return null;
    const width = this.facts.context!.size;
    return this.contexts.slice(point * width, (point + 1) * width);
  }

  numbers(values: ArrayLike<number>): Numbers {
    return this.facts.x.dtype === "float64" ? Float64Array.from(values) : Float32Array.from(values);
  }

  labelOf(point: number): string {
    return this.labels && this.facts.labels ? this.facts.labels[this.labels[point]] ?? "" : "";
  }
}

// What the points can be told apart by: their label, or a column of a table.
export interface Grouping { name: string; names: string[]; of: Uint16Array }

const MOST_GROUPS = 40;

function groupings(model: Model): Grouping[] {
  const { facts, labels } = model, found: Grouping[] = [];
  if (labels && facts.labels) found.push({ name: facts.label_name, names: facts.labels, of: labels });
  const columns = facts.x.columns;
  if (!facts.points.cells || !columns) return found;
  const cells = model.array(facts.points.cells) as Float32Array;
  columns.forEach((column, j) => {
    const values = Float32Array.from({ length: facts.points.n }, (_, i) => cells[i * columns.length + j]);
    const grouping = column.categories ? byCategory(column.name, column.categories, values) : byQuarter(column.name, values);
    if (grouping && grouping.names.length > 1) found.push(grouping);
  });
  return found;
}

function byCategory(name: string, categories: string[], values: Float32Array): Grouping | null {
  if (categories.length > MOST_GROUPS) return null;
  return { name, names: [...categories, "missing"], of: Uint16Array.from(values, (v) => (Number.isNaN(v) ? categories.length : v)) };
}

// Numbers by the quarter of the rows that they are in.
function byQuarter(name: string, values: Float32Array): Grouping {
  const sorted = values.filter((v) => !Number.isNaN(v)).sort();
  const edges = [...new Set([0.25, 0.5, 0.75].map((q) => sorted[Math.floor(q * (sorted.length - 1))]))];
  const short = (v: number) => String(+v.toPrecision(4)).replace("-", "\u2212");
  const names = [`up to ${short(edges[0])}`, ...edges.map((edge, k) => (k + 1 < edges.length ? `to ${short(edges[k + 1])}` : `above ${short(edge)}`)), "missing"];
  return { name, names, of: Uint16Array.from(values, (v) => (Number.isNaN(v) ? edges.length + 1 : edges.filter((edge) => v > edge).length)) };
}

export const FORMAT = 1;
