// How densely codes lie on the map: where it is not tinted, the decoder has seen nothing alike.

import { useEffect, useRef } from "preact/hooks";
import { palette, rgb } from "./colours";
import { View } from "./points";

const SIDE = 64; // cells of a side
const SMOOTHED = 3; // times that each cell becomes the mean of its neighbours

export interface Places { x: Float32Array; y: Float32Array }

// The counts of a square of the plane around a middle, smoothed, from 0 to 1.
function densityOf({ x, y }: Places, middle: [number, number], side: number): Float32Array {
  let cells = new Float32Array(SIDE * SIDE);
  for (let i = 0; i < x.length; i++) {
    const across = Math.floor(((x[i] - middle[0]) / side + 0.5) * SIDE), down = Math.floor((0.5 - (y[i] - middle[1]) / side) * SIDE);
    if (across >= 0 && across < SIDE && down >= 0 && down < SIDE) cells[down * SIDE + across]++;
  }
  for (let round = 0; round < SMOOTHED; round++) {
    for (const step of [1, SIDE]) {
      const next = new Float32Array(cells.length);
      for (let i = 0; i < cells.length; i++) {
        for (let k = -2; k <= 2; k++) next[i] += (cells[i + k * step] ?? 0) / 5;
      }
      cells = next;
    }
  }
  const top = cells.reduce((a, b) => Math.max(a, b), 1e-12);
  return cells.map((v) => Math.sqrt(v / top));
}

export function Density({ places, home, view, width, height, dark }: { places: Places; home: View; view: View; width: number; height: number; dark: boolean }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  const side = (1.3 * Math.max(width, height)) / home.scale;
  useEffect(() => {
    if (!Number.isFinite(side)) return;
    const element = canvas.current!, pen = element.getContext("2d")!, image = pen.createImageData(SIDE, SIDE);
    const [r, g, b] = rgb(palette()[0]).map((v) => 255 * v);
    densityOf(places, [home.x, home.y], side).forEach((share, i) => image.data.set([r, g, b, (dark ? 70 : 52) * share], 4 * i));
    pen.putImageData(image, 0, 0);
  }, [places, home, side, dark]);
  const pixels = side * view.scale;
  const left = width / 2 + (home.x - view.x) * view.scale - pixels / 2, top = height / 2 - (home.y - view.y) * view.scale - pixels / 2;
  return <canvas ref={canvas} class="density" width={SIDE} height={SIDE} aria-hidden="true" style={{ left: `${left}px`, top: `${top}px`, width: `${pixels}px`, height: `${pixels}px` }} />;
}
