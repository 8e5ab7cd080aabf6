// The sound of log-mel features, where there is no server to make it: as vaekit's LogMel.sound does, by Griffin and Lim's
// iterations with momentum.

import { uniforms } from "./maths";

export interface Features { frames: number; bands: number; rate: number; window: number; hop: number; length: number; floor: number }

const ROUNDS = 60, ROUNDS_OF_POWER = 100, MOMENTUM = 0.99;

export const canSound = (about: Features) => Number.isInteger(Math.log2(about.window));

// Samples of features (bands, frames), with the bands' weights of each frequency (bands, window / 2 + 1).
export async function soundOf(features: ArrayLike<number>, about: Features, filters: Float32Array): Promise<Float32Array> {
  const { frames, window, hop, length } = about, bins = window / 2 + 1;
  const hann = Float64Array.from({ length: window }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / window));
  const energy = hann.reduce((sum, w) => sum + w * w, 0) * window;
  const magnitude = powerOf(features, about, filters).map((p, i) => Math.sqrt((p * energy) / (i % bins === 0 || i % bins === bins - 1 ? 1 : 2)));
  const transform = fourier(window), uniform = uniforms(0), n = frames * bins;
  let re = new Float64Array(n), im = new Float64Array(n), beforeRe: Float64Array | null = null, beforeIm: Float64Array = im;
  for (let i = 0; i < n; i++) {
    const angle = 2 * Math.PI * uniform();
    re[i] = magnitude[i] * Math.cos(angle);
    im[i] = magnitude[i] * Math.sin(angle);
  }
  for (let round = 0; round < ROUNDS; round++) {
    const [nextRe, nextIm] = spectrum(samples(re, im, hann, frames, hop, length, transform), hann, frames, hop, transform);
    re = new Float64Array(n);
    im = new Float64Array(n);
    for (let i = 0; i < n; i++) {
      const a = nextRe[i] + (beforeRe ? MOMENTUM * (nextRe[i] - beforeRe[i]) : 0), b = nextIm[i] + (beforeRe ? MOMENTUM * (nextIm[i] - beforeIm[i]) : 0);
      const size = Math.hypot(a, b);
      re[i] = size ? (magnitude[i] * a) / size : magnitude[i];
      im[i] = size ? (magnitude[i] * b) / size : 0;
    }
    [beforeRe, beforeIm] = [nextRe, nextIm];
    if (round % 8 === 7) await new Promise((done) => setTimeout(done)); // the page answers meanwhile
  }
  return Float32Array.from(samples(re, im, hann, frames, hop, length, transform));
}

// A power spectrum, frame by frame, with these features: non-negative least squares, by multiplicative updates.
function powerOf(features: ArrayLike<number>, about: Features, filters: Float32Array): Float64Array {
  const { frames, bands, window, floor } = about, bins = window / 2 + 1;
  const weights = Array.from({ length: bands }, (_, b) => Array.from({ length: bins }, (_, k) => [k, filters[b * bins + k]]).filter(([, w]) => w > 0));
  const totals = weights.map((band) => band.reduce((sum, [, w]) => sum + w, 0));
  const out = new Float64Array(frames * bins), back = new Float64Array(bins), below = new Float64Array(bins);
  for (let t = 0; t < frames; t++) {
    const power = out.subarray(t * bins, (t + 1) * bins);
    back.fill(0);
    for (let b = 0; b < bands; b++) {
      const wanted = Math.max(0, Math.exp(features[b * frames + t]) - floor);
      for (const [k, w] of weights[b]) { back[k] += w * wanted; power[k] += (w * wanted) / totals[b]; }
    }
    for (let round = 0; round < ROUNDS_OF_POWER; round++) {
      below.fill(0);
      for (const band of weights) {
        let sum = 0;
        for (const [k, w] of band) sum += w * power[k];
        for (const [k, w] of band) below[k] += w * sum;
      }
      for (let k = 0; k < bins; k++) power[k] *= back[k] / Math.max(below[k], 1e-300);
    }
  }
  return out;
}

type Transform = (re: Float64Array, im: Float64Array, inverse: boolean) => void;

// The fast Fourier transform of a power of 2 numbers, in place; its inverse divides by how many they are.
function fourier(size: number): Transform {
  const order = new Uint32Array(size), bits = Math.log2(size);
  for (let i = 0; i < size; i++) for (let bit = 0; bit < bits; bit++) if (i & (1 << bit)) order[i] |= 1 << (bits - 1 - bit);
  const cos = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
  const sin = Float64Array.from({ length: size / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / size));
  return (re, im, inverse) => {
    for (let i = 0; i < size; i++) {
      const j = order[i];
      if (j > i) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
    }
    const sign = inverse ? 1 : -1;
    for (let half = 1; half < size; half *= 2) {
      const step = size / (2 * half);
      for (let start = 0; start < size; start += 2 * half) {
        for (let k = 0; k < half; k++) {
          const c = cos[k * step], s = sign * sin[k * step], a = start + k, b = a + half;
          const x = re[b] * c - im[b] * s, y = re[b] * s + im[b] * c;
          re[b] = re[a] - x;
          im[b] = im[a] - y;
          re[a] += x;
          im[a] += y;
        }
      }
    }
    if (inverse) for (let i = 0; i < size; i++) { re[i] /= size; im[i] /= size; }
  };
}

// The short-time spectrum of samples between silence, (frames, bins): frame t is around sample t * hop.
function spectrum(x: Float64Array, hann: Float64Array, frames: number, hop: number, transform: Transform): [Float64Array, Float64Array] {
  const size = hann.length, bins = size / 2 + 1, re = new Float64Array(size), im = new Float64Array(size);
  const outRe = new Float64Array(frames * bins), outIm = new Float64Array(frames * bins);
  for (let t = 0; t < frames; t++) {
    const start = t * hop - size / 2;
    for (let i = 0; i < size; i++) { re[i] = hann[i] * (x[start + i] ?? 0); im[i] = 0; }
    transform(re, im, false);
    outRe.set(re.subarray(0, bins), t * bins);
    outIm.set(im.subarray(0, bins), t * bins);
  }
  return [outRe, outIm];
}

// The samples whose short-time spectrum is nearest to this one.
function samples(re: Float64Array, im: Float64Array, hann: Float64Array, frames: number, hop: number, length: number, transform: Transform): Float64Array {
  const size = hann.length, bins = size / 2 + 1, frameRe = new Float64Array(size), frameIm = new Float64Array(size);
  const out = new Float64Array(length), weight = new Float64Array(length);
  for (let t = 0; t < frames; t++) {
    for (let k = 0; k < size; k++) {
      const from = t * bins + (k < bins ? k : size - k);
      frameRe[k] = re[from];
      frameIm[k] = k === 0 || k === size / 2 ? 0 : k < bins ? im[from] : -im[from];
    }
    transform(frameRe, frameIm, true);
    const start = t * hop - size / 2;
    for (let i = Math.max(0, -start); i < size && start + i < length; i++) {
      out[start + i] += hann[i] * frameRe[i];
      weight[start + i] += hann[i] * hann[i];
    }
  }
  return out.map((v, i) => (weight[i] > 1e-8 ? v / weight[i] : 0));
}

// Samples from -1 to 1 as a wav file of 16 bits.
export function wav(x: Float32Array, rate: number): Blob {
  const header = new DataView(new ArrayBuffer(44));
  const name = (at: number, letters: string) => [...letters].forEach((letter, i) => header.setUint8(at + i, letter.charCodeAt(0)));
  name(0, "RIFF"); header.setUint32(4, 36 + 2 * x.length, true); name(8, "WAVEfmt "); header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); header.setUint16(22, 1, true); header.setUint32(24, rate, true); header.setUint32(28, 2 * rate, true);
  header.setUint16(32, 2, true); header.setUint16(34, 16, true); name(36, "data"); header.setUint32(40, 2 * x.length, true);
  const levels = Int16Array.from(x, (v) => Math.round(32767 * Math.max(-1, Math.min(1, v))));
  return new Blob([header, levels], { type: "audio/wav" });
}
