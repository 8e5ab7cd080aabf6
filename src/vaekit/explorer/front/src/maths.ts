// Random numbers by seed, and the few functions of numbers that the panels share.

// Uniform on [0, 1): mulberry32.
export function uniforms(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// Draws of N(0, 1), by Box and Muller.
export function normals(seed: number, n: number): Float32Array {
  const uniform = uniforms(seed), out = new Float32Array(n);
  for (let i = 0; i < n; i += 2) {
    const r = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
    out[i] = r * Math.cos(angle);
    if (i + 1 < n) out[i + 1] = r * Math.sin(angle);
  }
  return out;
}

// The quantile of N(0, 1), by bisection of its distribution function.
export function normalQuantile(p: number): number {
  let low = -8, high = 8;
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (normalBelow(middle) < p) low = middle; else high = middle;
  }
  return (low + high) / 2;
}

function normalBelow(x: number): number {
  // Simpson's rule from 0: the integrand is smooth, and 200 intervals are exact to rounding of what is drawn
  const steps = 200, h = x / steps;
  let sum = density(0) + density(x);
  for (let i = 1; i < steps; i++) sum += (i % 2 ? 4 : 2) * density(i * h);
  return 0.5 + (sum * h) / 3;
}

export const density = (x: number) => Math.exp(-0.5 * x * x) / Math.sqrt(2 * Math.PI);

export const dot = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
};

export const norm = (a: ArrayLike<number>) => Math.sqrt(dot(a, a));

export function distance(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.sqrt(sum);
}

// From a to b: along a line, or along a great circle whose radius goes evenly from one length to the other.
export function between(a: Float32Array, b: Float32Array, share: number, spherical: boolean): Float32Array {
  const lengths = [norm(a), norm(b)];
  const angle = Math.acos(Math.max(-1, Math.min(1, dot(a, b) / (lengths[0] * lengths[1]))));
  if (!spherical || !(Math.sin(angle) > 1e-6)) return a.map((x, i) => (1 - share) * x + share * b[i]);
  const length = (1 - share) * lengths[0] + share * lengths[1];
  const first = Math.sin((1 - share) * angle) / lengths[0], second = Math.sin(share * angle) / lengths[1];
  return a.map((x, i) => ((first * x + second * b[i]) / Math.sin(angle)) * length);
}

export function histogram(values: ArrayLike<number>, low: number, high: number, bins: number): number[] {
  const counts = new Array<number>(bins).fill(0);
  for (let i = 0; i < values.length; i++) {
    const place = Math.floor(((values[i] - low) / (high - low)) * bins);
    if (place >= 0 && place < bins) counts[place]++;
  }
  return counts;
}

// Column j of a matrix of so many columns.
export function column(matrix: ArrayLike<number>, width: number, j: number): Float32Array {
  const out = new Float32Array(matrix.length / width);
  for (let i = 0; i < out.length; i++) out[i] = matrix[i * width + j];
  return out;
}

export function meanOf(matrix: Float32Array, width: number, rows: number[]): Float32Array {
  const out = new Float32Array(width);
  for (const row of rows) for (let j = 0; j < width; j++) out[j] += matrix[row * width + j] / rows.length;
  return out;
}

export function correlations(matrix: Float32Array, width: number, dims: number[]): number[][] {
  const columns = dims.map((j) => {
    const values = column(matrix, width, j);
    const mean = values.reduce((a, b) => a + b, 0) / values.length;
    const centred = values.map((x) => x - mean);
    const length = norm(centred) || 1;
    return centred.map((x) => x / length);
  });
  return columns.map((a) => columns.map((b) => dot(a, b)));
}

// A number as text: few digits, a proper minus sign.
export function text(value: number | null | undefined, digits = 3): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "not finite";
  const size = Math.abs(value);
  const plain = size !== 0 && (size < 1e-3 || size >= 1e6) ? value.toExponential(2) : String(+value.toPrecision(Math.max(digits, Math.ceil(Math.log10(size + 1)))));
  return plain.replace("-", "\u2212");
}

export const hundredths = (value: number) => value.toFixed(2).replace("-", "\u2212");
