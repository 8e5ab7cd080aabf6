// The manifold: what a grid over two dimensions of z decodes to, the others as they are in z.

import { useEffect, useRef, useState } from "preact/hooks";
import { repeated } from "./backend";
import { magma } from "./colours";
import { normalQuantile, text } from "./maths";
import { Model, Numbers } from "./model";
import { AxesChooser, download, Inspector } from "./parts";
import { brightness, cell, channelRanges } from "./row";
import { answers, axes, context, z } from "./state";

export function ManifoldPanel({ model }: { model: Model }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const [side, setSide] = useState(15), [spacing, setSpacing] = useState<"quantile" | "linear">("quantile");
  const [said, say] = useState(""), [column, setColumn] = useState(0);
  const [grid, setGrid] = useState<{ x: Numbers; side: number } | null>(null);
  const { order, kind, x: about } = model.facts;
  const pair = axes.value ?? [order[0], order[1] ?? order[0]];
  const ticks = Array.from({ length: side }, (_, i) => spacing === "quantile" ? normalQuantile(0.02 + (0.96 * i) / (side - 1)) : -3 + (6 * i) / (side - 1));
  const pictured = kind === "image" || kind === "sound" || kind === "table" || kind === "series";

  useEffect(() => {
    let over = false;
    const d = model.latents, n = side * side, codes = new Float32Array(n * d);
    for (let i = 0; i < n; i++) {
      codes.set(z.value, i * d);
      codes[i * d + pair[0]] = ticks[i % side];
      if (d > 1) codes[i * d + pair[1]] = ticks[side - 1 - Math.floor(i / side)];
    }
    const began = performance.now();
    answers().decode(codes, n, context.value && repeated(context.value, n)).then((x) => {
      if (over) return;
      if (x.some((v) => !Number.isFinite(v))) { say("Some of these decode to numbers that are not finite."); return; }
      setGrid({ x, side });
      say(`${n} codes decoded in ${Math.round(performance.now() - began)} ms`);
    }, (error: Error) => !over && say(error.message));
    return () => { over = true; };
  }, [model, side, spacing, pair[0], pair[1], context.value, ...others(z.value, pair)]);

  useEffect(() => { if (grid && pictured) paintGrid(canvas.current!, model, grid.x, grid.side, column); }, [grid, column, model]);

  const go = (e: MouseEvent) => {
    const rect = canvas.current!.getBoundingClientRect();
    choose(Math.floor(((e.clientX - rect.left) / rect.width) * side), Math.floor(((e.clientY - rect.top) / rect.height) * side));
  };
  const choose = (across: number, down: number) => {
    const next = z.value.slice(), within = (i: number) => Math.max(0, Math.min(side - 1, i));
    next[pair[0]] = ticks[within(across)];
    if (model.latents > 1) next[pair[1]] = ticks[side - 1 - within(down)];
    z.value = next;
  };
  const near = (value: number) => ticks.reduce((best, tick, i) => Math.abs(tick - value) < Math.abs(ticks[best] - value) ? i : best, 0);
  const key = (e: KeyboardEvent) => {
    const moves: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (!moves[e.key]) return;
    e.preventDefault();
    choose(near(z.value[pair[0]]) + moves[e.key][0], side - 1 - near(z.value[pair[1]]) + moves[e.key][1]);
  };
  return (
    <div class="with-inspector">
      <div class="main">
        <div class="row-of-controls">
          <AxesChooser model={model} plane={false} />
          <label>Size
            <input type="range" min={5} max={25} value={side} aria-valuetext={`${side} by ${side}`} onChange={(e) => setSide(Number(e.currentTarget.value))} />
          </label>
          <label>Spacing
            <select value={spacing} onChange={(e) => setSpacing(e.currentTarget.value as typeof spacing)}>
              <option value="quantile">quantiles of N(0, 1)</option><option value="linear">linear, −3 to 3</option>
            </select>
          </label>
          {kind === "table" && (
            <label>Column
              <select value={column} onChange={(e) => setColumn(Number(e.currentTarget.value))}>
                {about.columns!.slice(0, 200).map((c, j) => <option key={j} value={j}>{c.name}</option>)}
              </select>
            </label>
          )}
          <button type="button" onClick={() => canvas.current && download("manifold.png", canvas.current.toDataURL("image/png"))}>Save PNG</button>
        </div>
        <canvas ref={canvas} class={kind === "image" ? "grid pixels" : "grid"} tabIndex={0} role="img" onClick={go} onKeyDown={key}
          aria-label={`Grid of ${side} by ${side} decoded codes: z${pair[0]} to the right, z${pair[1]} upwards. Arrow keys move z.`} />
        <p class="note" role="status">z{pair[0]} across and z{pair[1]} up, from {text(ticks[0], 2)} to {text(ticks[side - 1], 2)}. {said}</p>
      </div>
      <Inspector model={model} />
    </div>
  );
}

// The dimensions that the grid does not change, as one text: it is decoded again when they change, not when z moves in it.
function others(code: Float32Array, pair: number[]): string[] {
  return [Array.from(code).filter((_, i) => i !== pair[0] && i !== pair[1]).join()];
}

function paintGrid(canvas: HTMLCanvasElement, model: Model, x: Numbers, side: number, column: number) {
  const { kind, x: about } = model.facts, pen = canvas.getContext("2d")!, size = about.size;
  if (kind === "image") {
    const { width, height } = about.image!, gap = width > 16 ? 0 : 1, w = width + gap, h = height + gap;
    canvas.width = side * w + gap;
    canvas.height = side * h + gap;
    const pixels = pen.createImageData(canvas.width, canvas.height);
    for (let i = 3; i < pixels.data.length; i += 4) pixels.data[i] = 255;
    for (let i = 0; i < pixels.data.length; i += 4) pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = 120;
    for (let cell = 0; cell < side * side; cell++) {
      const { unit, channels } = brightness(model, x.subarray(cell * size, (cell + 1) * size), true);
      for (let p = 0; p < width * height; p++) {
        const px = gap + (cell % side) * w + (p % width), py = gap + Math.floor(cell / side) * h + Math.floor(p / width);
        for (let c = 0; c < 3; c++) pixels.data[4 * (py * canvas.width + px) + c] = 255 * Math.max(0, Math.min(1, unit[p * channels + (channels === 3 ? c : 0)]));
      }
    }
    pen.putImageData(pixels, 0, 0);
    return;
  }
  const tile = Math.max(28, Math.floor(900 / side));
  canvas.width = canvas.height = side * tile;
  pen.fillStyle = getComputedStyle(canvas).getPropertyValue("--surface") || "#fff";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  const ink = getComputedStyle(canvas).getPropertyValue("--ink") || "#222";
  let low = 0, high = 1;
  if (kind === "series") [low, high] = channelRanges(model)[0];
  if (kind === "table") { const c = about.columns![column]; [low, high] = c.categories ? [0, c.categories.length - 1] : [c.low, c.high]; }
  for (let i = 0; i < side * side; i++) {
    const left = (i % side) * tile, top = Math.floor(i / side) * tile, values = x.subarray(i * size, (i + 1) * size);
    if (kind === "sound") {
      const { frames, bands, low: floor, high: ceiling } = about.sound!;
      const steps = Math.min(frames, tile), heights = Math.min(bands, tile);
      for (let a = 0; a < steps; a++) {
        for (let b = 0; b < heights; b++) {
          const v = values[Math.floor((b * bands) / heights) * frames + Math.floor((a * frames) / steps)];
          pen.fillStyle = css(magma((v - floor) / (ceiling - floor)));
          pen.fillRect(left + (a * tile) / steps, top + tile - ((b + 1) * tile) / heights, tile / steps + 0.5, tile / heights + 0.5);
        }
      }
    } else if (kind === "series") {
      const { steps, channels, order } = about.series!;
      pen.strokeStyle = ink;
      pen.beginPath();
      for (let t = 0; t < steps; t++) {
        const v = values[order === "tc" ? t * channels : t], px = left + 2 + ((tile - 4) * t) / Math.max(1, steps - 1), py = top + 2 + (tile - 4) * (1 - (v - low) / (high - low || 1));
        if (t) pen.lineTo(px, py); else pen.moveTo(px, py);
      }
      pen.stroke();
    } else if (kind === "table") {
      const share = (values[column] - low) / (high - low || 1), colour = magma(0.15 + 0.8 * share);
      pen.fillStyle = css(colour);
      pen.fillRect(left, top, tile - 1, tile - 1);
      pen.fillStyle = colour[0] + colour[1] + colour[2] > 1.4 ? "#111" : "#fff";
      pen.font = `${Math.min(15, tile / 3.4)}px system-ui, sans-serif`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      pen.fillText(cell(model, column, values[column]), left + tile / 2, top + tile / 2, tile - 6);
    }
  }
}

const css = ([r, g, b]: [number, number, number]) => `rgb(${Math.round(255 * r)} ${Math.round(255 * g)} ${Math.round(255 * b)})`;
