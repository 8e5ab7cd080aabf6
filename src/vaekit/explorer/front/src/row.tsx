// One row as it looks: a picture, a spectrogram, a chart, a table of cells, or bars.

import { useEffect, useRef, useState } from "preact/hooks";
import { magma, palette } from "./colours";
import { Model, Numbers } from "./model";
import { answers } from "./state";
import { text } from "./maths";

interface Shown { model: Model; x: Numbers; decoded?: boolean; label: string; large?: boolean; beside?: Numbers }

export function Row(shown: Shown) {
  switch (shown.model.facts.kind) {
    case "image": return <Picture {...shown} />;
    case "sound": return <Sound {...shown} />;
    case "series": return <Series {...shown} />;
    case "table": return <Cells {...shown} />;
    default: return <Bars {...shown} />;
  }
}

// Brightness from 0 to 1 of each value of a picture, (height, width, channels) with one channel or three.
export function brightness(model: Model, x: ArrayLike<number>, decoded: boolean): { unit: Float32Array; channels: number } {
  const about = model.facts.x.image!, { height, width } = about;
  const channels = about.channels === 3 || about.channels === 4 ? 3 : 1;
  const unit = new Float32Array(height * width * channels);
  const [low, high] = decoded ? [about.decoded_low, about.decoded_high] : [about.low, about.high];
  const threshold = decoded ? null : model.facts.x.binarised_above;
  for (let p = 0; p < height * width; p++) {
    for (let c = 0; c < channels; c++) {
      const value = x[about.order.endsWith("c") ? p * about.channels + c : c * height * width + p];
      unit[p * channels + c] = threshold !== null ? Number(value >= threshold) : (value - low) / (high - low);
    }
  }
  return { unit, channels };
}

export function paint(canvas: HTMLCanvasElement, model: Model, x: ArrayLike<number>, decoded: boolean) {
  const { height, width } = model.facts.x.image!;
  const { unit, channels } = brightness(model, x, decoded);
  paintUnit(canvas, width, height, (p, c) => unit[p * channels + (channels === 3 ? c : 0)]);
}

export function paintUnit(canvas: HTMLCanvasElement, width: number, height: number, value: (pixel: number, channel: number) => number) {
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d")!, pixels = pen.createImageData(width, height);
  for (let p = 0; p < width * height; p++) {
    for (let c = 0; c < 3; c++) {
      const v = value(p, c);
      pixels.data[4 * p + c] = Number.isNaN(v) ? 128 : Math.round(255 * Math.max(0, Math.min(1, v)));
    }
    pixels.data[4 * p + 3] = 255;
  }
  pen.putImageData(pixels, 0, 0);
}

function Picture({ model, x, decoded = false, label, large }: Shown) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => paint(canvas.current!, model, x, decoded), [model, x, decoded]);
  return <canvas ref={canvas} role="img" aria-label={label} class={large ? "picture large" : "picture"} />;
}

export function ErrorMap({ model, x, mean }: { model: Model; x: Numbers; mean: Numbers }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const { height, width } = model.facts.x.image!;
    const a = brightness(model, x, false), b = brightness(model, mean, true);
    paintUnit(canvas.current!, width, height, (p, c) => {
      let worst = 0;
      for (let k = 0; k < a.channels; k++) worst = Math.max(worst, Math.abs(a.unit[p * a.channels + k] - b.unit[p * a.channels + k]));
      return magma(worst)[c];
    });
  }, [model, x, mean]);
  return <canvas ref={canvas} role="img" aria-label="Absolute error of each pixel, black for none" class="picture" />;
}

function Sound({ model, x, label, large }: Shown) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const { frames, bands, low, high } = model.facts.x.sound!;
  useEffect(() => {
    paintUnit(canvas.current!, frames, bands, (p, c) => {
      const band = bands - 1 - Math.floor(p / frames), frame = p % frames;
      return magma((x[band * frames + frame] - low) / (high - low))[c];
    });
  }, [model, x]);
  return (
    <figure class="sound">
      <canvas ref={canvas} role="img" aria-label={`${label}: log-mel features, time to the right, frequency upwards`} class={large ? "spectrogram large" : "spectrogram"} />
      <Player x={x} label={label} />
    </figure>
  );
}

function Player({ x, label }: { x: Numbers; label: string }) {
  const [url, setUrl] = useState(""), [problem, setProblem] = useState(""), [busy, setBusy] = useState(false);
  useEffect(() => { setUrl(""); return () => undefined; }, [x]);
  useEffect(() => () => { if (url) URL.revokeObjectURL(url); }, [url]);
  const sound = answers().sound;
  if (!sound) return null;
  const play = async () => {
    setBusy(true);
    try {
      setUrl(URL.createObjectURL(await sound.call(answers(), x)));
      setProblem("");
    } catch (error) {
      setProblem((error as Error).message);
    }
    setBusy(false);
  };
  return (
    <div class="player">
      {url ? <audio controls autoplay src={url} aria-label={`${label} as sound`} /> :
        <button type="button" onClick={play} disabled={busy}>{busy ? "Making sound" : "Listen"}</button>}
      {problem && <p class="problem">{problem}</p>}
    </div>
  );
}

// Between which numbers each channel of a series lies, in the rows that the page has.
export function channelRanges(model: Model): [number, number][] {
  const { steps, channels, order } = model.facts.x.series!;
  const found: [number, number][] = Array.from({ length: channels }, () => [Infinity, -Infinity]);
  model.rows.forEach((v: number, i: number) => {
    const at = i % (steps * channels), range = found[order === "tc" ? at % channels : Math.floor(at / steps)];
    if (Number.isFinite(v)) { range[0] = Math.min(range[0], v); range[1] = Math.max(range[1], v); }
  });
  return found.map(([low, high]) => (high > low ? [low, high] : [low - 0.5, low + 0.5]));
}

function Series({ model, x, label, large, beside }: Shown) {
  const { steps, channels, order } = model.facts.x.series!;
  const at = (values: Numbers, c: number, t: number) => values[order === "tc" ? t * channels + c : c * steps + t];
  const shown = Math.min(channels, 8), height = large ? 240 : 120, width = 480;
  const ranges = channelRanges(model), inner = height - 12;
  const y = (v: number, c: number) => 6 + inner * (1 - (v - ranges[c][0]) / (ranges[c][1] - ranges[c][0]));
  const path = (values: Numbers, c: number) => {
    let found = "", on = false;
    for (let t = 0; t < steps; t++) {
      const v = at(values, c, t);
      if (!Number.isFinite(v)) { on = false; continue; }
      found += `${on ? "L" : "M"}${((t / Math.max(1, steps - 1)) * width).toFixed(1)} ${Math.max(1, Math.min(height - 1, y(v, c))).toFixed(1)}`;
      on = true;
    }
    return found;
  };
  return (
    <figure class="series">
      <svg viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${label}: ${channels === 1 ? "one channel" : `${channels} channels`} over ${steps} steps`}>
        {beside && Array.from({ length: shown }, (_, c) => <path key={`b${c}`} d={path(beside, c)} class="beside" />)}
        {Array.from({ length: shown }, (_, c) => <path key={c} d={path(x, c)} stroke={palette()[c]} />)}
      </svg>
      <figcaption>{steps} steps; {channels === 1 ? `${text(ranges[0][0])} to ${text(ranges[0][1])}` : `${shown} of ${channels} channels, each over its own range`}</figcaption>
    </figure>
  );
}

export function cell(model: Model, j: number, value: number): string {
  if (Number.isNaN(value)) return "missing";
  const about = model.facts.x.columns![j];
  if (about.categories) return about.categories[Math.round(value)] ?? text(value);
  if (about.integer) return String(Math.round(value)).replace("-", "\u2212");
  return text(value, 4);
}

function Cells({ model, x, label, beside }: Shown) {
  const columns = model.facts.x.columns!;
  const [all, setAll] = useState(false);
  const most = all ? columns.length : 40;
  return (
    <div class="cells">
      <table aria-label={label}>
        <thead><tr><th scope="col">column</th><th scope="col">value</th>{beside ? <th scope="col">original</th> : <th scope="col"><span class="hidden">range</span></th>}</tr></thead>
        <tbody>
          {columns.slice(0, most).map((about, j) => {
            const shown = cell(model, j, x[j]), other = beside && cell(model, j, beside[j]);
            const share = Math.max(0, Math.min(1, (x[j] - about.low) / (about.high - about.low || 1)));
            return (
              <tr key={j} class={beside && shown !== other ? "differs" : ""}>
                <th scope="row">{about.name}</th>
                <td>{shown}{beside && shown !== other && <span class="hidden"> (differs)</span>}</td>
                {beside ? <td>{other}</td> : <td>{!about.categories && <svg class="place" viewBox="0 0 60 8" aria-hidden="true"><rect x="0" y="3.5" width="60" height="1" /><circle cx={3 + 54 * share} cy="4" r="3" /></svg>}</td>}
              </tr>
            );
          })}
        </tbody>
      </table>
      {columns.length > 40 && <button type="button" onClick={() => setAll(!all)}>{all ? "Show 40 columns" : `Show all ${columns.length} columns`}</button>}
    </div>
  );
}

function Bars({ x, label, large }: Shown) {
  const most = Math.min(x.length, 512), height = large ? 200 : 100;
  let low = 0, high = 0;
  for (let i = 0; i < most; i++) { low = Math.min(low, x[i]); high = Math.max(high, x[i]); }
  const y = (v: number) => height * (1 - (v - low) / (high - low || 1));
  return (
    <figure class="series">
      <svg viewBox={`0 0 ${most} ${height}`} preserveAspectRatio="none" role="img" aria-label={`${label}: ${x.length} numbers`}>
        {Array.from({ length: most }, (_, i) => <rect key={i} x={i + 0.1} width={0.8} y={Math.min(y(0), y(x[i]))} height={Math.abs(y(0) - y(x[i]))} fill={palette()[0]} />)}
      </svg>
      <figcaption>{most < x.length ? `the first ${most} of ${x.length} numbers` : `${x.length} numbers`}, {text(low)} to {text(high)}</figcaption>
    </figure>
  );
}
