// The map: where the rows lie in latent space. A click, or the arrow keys, decode the z at that place.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { colourOf, isDark, rgb, shapeOf } from "./colours";
import { Density } from "./density";
import { Model } from "./model";
import { AxesChooser, GroupingChooser, Inspector, Legend } from "./parts";
import { Points, Renderer, renderer, View } from "./points";
import { axes, context, groups, hidden, row, setA, setB, theme, z } from "./state";
import { dot, text } from "./maths";
import { paintUnit } from "./row";

interface Plane { across: Float32Array; up: Float32Array; centre: Float32Array; names: string[] }

// The directions of the map, which are orthonormal, and the point that is its origin.
export function planeOf(model: Model, pair: [number, number] | null): Plane {
  const d = model.latents, unit = (i: number) => Float32Array.from({ length: d }, (_, j) => Number(i === j));
  const { plane } = model.facts;
  if (pair) return { across: unit(pair[0]), up: unit(pair[1]), centre: new Float32Array(d), names: pair.map((i) => `z${i}`) };
  const directions = model.array(plane.directions) as Float32Array;
  return {
    across: directions.slice(0, d), up: d > 1 ? directions.slice(d, 2 * d) : new Float32Array(d),
    centre: model.array(plane.centre) as Float32Array, names: d > 1 ? plane.axes : ["z0", "(spread)"],
  };
}

export function MapPanel({ model }: { model: Model }) {
  const box = useRef<HTMLDivElement>(null), canvas = useRef<HTMLCanvasElement>(null);
  const drawing = useRef<Renderer | null>(null);
  const [size, setSize] = useState({ width: 640, height: 480 });
  const [view, setView] = useState<View | null>(null);
  const [hover, setHover] = useState(-1);
  const [mode, setMode] = useState<"decode" | "move" | "A" | "B">("decode");
  const [lasso, setLasso] = useState<[number, number][]>([]);
  const held = useRef<{ x: number; y: number } | null>(null);
  const plane = useMemo(() => planeOf(model, axes.value), [model, axes.value]);
  const dark = (void theme.value, isDark());

  const places = useMemo(() => {
    const d = model.latents, x = new Float32Array(model.n), y = new Float32Array(model.n);
    const cx = dot(plane.centre, plane.across), cy = dot(plane.centre, plane.up);
    for (let i = 0; i < model.n; i++) {
      const code = model.mean.subarray(i * d, (i + 1) * d);
      x[i] = dot(code, plane.across) - cx;
      y[i] = d > 1 ? dot(code, plane.up) - cy : (((i * 2654435761) >>> 0) / 4294967296 - 0.5) * 2;
    }
    return { x, y };
  }, [model, plane]);

  const home = useMemo<View>(() => {
    const range = (values: Float32Array) => {
      const sorted = values.filter(Number.isFinite).sort();
      const low = sorted[Math.floor(0.002 * sorted.length)] ?? -1, high = sorted[Math.ceil(0.998 * (sorted.length - 1))] ?? 1;
      const least = model.facts.prior === "standard" ? 1.5 : 0, middle = (low + high) / 2;
      return [Math.min(low, -least, middle - 1e-6), Math.max(high, least, middle + 1e-6)];
    };
    const [l, r] = range(places.x), [b, t] = range(places.y);
    return { x: (l + r) / 2, y: (b + t) / 2, scale: 0.9 * Math.min(size.width / (r - l), size.height / (t - b)) };
  }, [places, size]);
  const shown = view ?? home;

  useEffect(() => {
    const fit = new ResizeObserver(([entry]) => {
      const width = Math.max(200, Math.round(entry.contentRect.width));
      setSize({ width, height: Math.round(Math.min(620, Math.max(300, width * 0.72))) });
    });
    fit.observe(box.current!);
    return () => fit.disconnect();
  }, []);
  useEffect(() => setView(null), [plane]);

  useEffect(() => {
    const off = hidden.value, colours = new Float32Array(4 * model.n), shapes = new Uint8Array(model.n);
    for (let i = 0; i < model.n; i++) {
      const label = groups.value ? groups.value.of[i] : 0;
      colours.set([...rgb(colourOf(label)), off.has(label) ? 0 : 0.72], 4 * i);
      shapes[i] = shapeOf(label);
    }
    const points: Points = { n: model.n, ...places, colours, shapes, size: model.n > 8000 ? 5 : model.n > 1000 ? 7 : 9 };
    drawing.current = renderer(canvas.current!, points);
    return () => { drawing.current?.destroy(); drawing.current = null; };
  }, [model, places, hidden.value, groups.value, dark]);

  useEffect(() => {
    const ratio = Math.min(2, devicePixelRatio || 1), element = box.current!.querySelector("canvas.points") as HTMLCanvasElement;
    element.width = Math.round(size.width * ratio);
    element.height = Math.round(size.height * ratio);
    drawing.current?.draw(shown, size.width, size.height);
    element.dataset.renderer = drawing.current?.kind;
  }, [shown, size, places, hidden.value, groups.value, dark, model]);

  const toPixels = (x: number, y: number): [number, number] => [size.width / 2 + (x - shown.x) * shown.scale, size.height / 2 - (y - shown.y) * shown.scale];
  const toPlane = (px: number, py: number): [number, number] => [(px - size.width / 2) / shown.scale + shown.x, (size.height / 2 - py) / shown.scale + shown.y];

  // z at a place of the plane: what z is off the plane stays where two dimensions are shown, and is that of the centre else.
  const codeAt = (x: number, y: number): Float32Array => {
    const base = axes.value || model.latents <= 2 ? z.value : plane.centre;
    const now = [dot(base, plane.across), dot(base, plane.up)];
    const cx = dot(plane.centre, plane.across), cy = dot(plane.centre, plane.up);
    return base.map((value, j) => value + (x + cx - now[0]) * plane.across[j] + (model.latents > 1 ? (y + cy - now[1]) * plane.up[j] : 0));
  };
  const place = (): [number, number] => [
    dot(z.value, plane.across) - dot(plane.centre, plane.across), model.latents > 1 ? dot(z.value, plane.up) - dot(plane.centre, plane.up) : 0,
  ];

  const nearestTo = (px: number, py: number) => {
    const [x, y] = toPlane(px, py);
    let best = (14 / shown.scale) ** 2, found = -1;
    for (let i = 0; i < model.n; i++) {
      const gap = (places.x[i] - x) ** 2 + (places.y[i] - y) ** 2;
      if (gap < best && !(groups.value && hidden.value.has(groups.value.of[i]))) { best = gap; found = i; }
    }
    return found;
  };
  const at = (e: PointerEvent | WheelEvent | MouseEvent): [number, number] => {
    const rect = box.current!.getBoundingClientRect();
    return [e.clientX - rect.left, e.clientY - rect.top];
  };
  const zoom = (factor: number, px = size.width / 2, py = size.height / 2) => {
    const [x, y] = toPlane(px, py), scale = Math.max(home.scale / 20, Math.min(home.scale * 200, shown.scale * factor));
    setView({ scale, x: x - (px - size.width / 2) / scale, y: y + (py - size.height / 2) / scale });
  };
  const down = (e: PointerEvent) => {
    const [px, py] = at(e);
    (e.currentTarget as Element).setPointerCapture(e.pointerId);
    held.current = { x: px, y: py };
    if (mode === "decode" && !e.shiftKey) z.value = codeAt(...toPlane(px, py));
    if (mode === "A" || mode === "B") setLasso([[px, py]]);
  };
  const move = (e: PointerEvent) => {
    const [px, py] = at(e), from = held.current;
    if (!from) { setHover(nearestTo(px, py)); return; }
    if (mode === "move" || (mode === "decode" && e.shiftKey)) {
      setView({ ...shown, x: shown.x - (px - from.x) / shown.scale, y: shown.y + (py - from.y) / shown.scale });
      held.current = { x: px, y: py };
    } else if (mode === "decode") z.value = codeAt(...toPlane(px, py));
    else setLasso([...lasso, [px, py]]);
  };
  const up = () => {
    if ((mode === "A" || mode === "B") && lasso.length > 2) {
      const inside = Array.from({ length: model.n }, (_, i) => i).filter((i) => encloses(lasso, toPixels(places.x[i], places.y[i])));
      (mode === "A" ? setA : setB).value = inside;
    }
    setLasso([]);
    held.current = null;
  };
  const key = (e: KeyboardEvent) => {
    const step = (e.shiftKey ? 40 : 10) / shown.scale, [x, y] = place();
    const moves: Record<string, [number, number]> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (moves[e.key]) { z.value = codeAt(x + moves[e.key][0], y + moves[e.key][1]); e.preventDefault(); }
    else if (e.key === "+" || e.key === "=") zoom(1.25);
    else if (e.key === "-") zoom(0.8);
    else if (e.key === "0" || e.key === "Home") setView(null);
  };
  const [zx, zy] = toPixels(...place());
  const centre = toPixels(-dot(plane.centre, plane.across), -dot(plane.centre, plane.up));
  const point = hover;
  const near = point >= 0 ? toPixels(places.x[point], places.y[point]) : null;
  const spread = (direction: Float32Array) => {
    let sum = 0;
    for (let j = 0; j < model.latents; j++) sum += (direction[j] * model.scale[point * model.latents + j]) ** 2;
    return Math.sqrt(sum) * shown.scale;
  };
  const take = (i: number) => {
    z.value = model.code(i);
    if (i < model.rowCount) { row.value = i; const beside = model.contextOf(i); if (beside) context.value = beside; }
  };

  return (
    <div class="with-inspector">
      <div class="main">
        <div class="row-of-controls">
          <AxesChooser model={model} plane />
          <GroupingChooser model={model} label="Colour by" />
          <label>Pointer
            <select value={mode} onChange={(e) => setMode(e.currentTarget.value as typeof mode)}>
              <option value="decode">decodes z</option><option value="move">moves the map</option>
              <option value="A">outlines set A</option><option value="B">outlines set B</option>
            </select>
          </label>
          <div class="buttons" role="group" aria-label="Zoom">
            <button type="button" aria-label="Zoom in" onClick={() => zoom(1.4)}>+</button>
            <button type="button" aria-label="Zoom out" onClick={() => zoom(1 / 1.4)}>−</button>
            <button type="button" onClick={() => setView(null)}>Whole map</button>
          </div>
        </div>
        <div
          ref={box} class={`map ${mode}`} tabIndex={0} role="application" style={{ height: `${size.height}px` }}
          aria-label={`Map of ${model.n} codes, ${plane.names.join(" and ")}. Arrow keys move z, plus and minus zoom.`}
          onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerCancel={up} onPointerLeave={() => setHover(-1)}
          onWheel={(e) => { e.preventDefault(); zoom(Math.exp(-e.deltaY * 0.0015), ...at(e)); }} onKeyDown={key}
          onDblClick={(e) => { const i = nearestTo(...at(e)); if (i >= 0) take(i); }}
        >
          <canvas ref={canvas} class="points" aria-hidden="true" />
          {model.latents > 1 && <Density places={places} home={home} view={shown} width={size.width} height={size.height} dark={dark} />}
          <svg width={size.width} height={size.height} aria-hidden="true">
            {model.facts.prior === "standard" && [1, 2, 3].map((k) => <circle key={k} class="prior" cx={centre[0]} cy={centre[1]} r={k * shown.scale} />)}
            {model.facts.prior === "standard" && [1, 2, 3].map((k) => <text key={`t${k}`} class="prior-name" x={centre[0] + 3} y={centre[1] - k * shown.scale - 3}>{k}σ of the prior</text>)}
            {near && <ellipse class="posterior" cx={near[0]} cy={near[1]} rx={Math.max(3, spread(plane.across))} ry={Math.max(3, model.latents > 1 ? spread(plane.up) : 3)} />}
            {lasso.length > 1 && <polygon class="lasso" points={lasso.map((p) => p.join(",")).join(" ")} />}
            {[setA.value, setB.value].map((set, k) => set.slice(0, 500).map((i) => { const [px, py] = toPixels(places.x[i], places.y[i]); return <circle key={`${k}-${i}`} class={k ? "in-b" : "in-a"} cx={px} cy={py} r="5" />; }))}
            <g class="cross"><line x1={zx - 11} x2={zx + 11} y1={zy} y2={zy} /><line x1={zx} x2={zx} y1={zy - 11} y2={zy + 11} /><circle cx={zx} cy={zy} r="5" /></g>
          </svg>
          {near && <Hovered model={model} point={point} left={near[0]} top={near[1]} width={size.width} />}
        </div>
        <p class="note axes-names">across: {plane.names[0]}; up: {plane.names[1]}. {text(model.n, 6)} of {text(model.facts.points.of || model.n, 6)} rows. The tint is how densely they lie. Double-click a point to take its code.</p>
        <Legend off={hidden.value} onToggle={(i) => {
          const next = new Set(hidden.value);
          if (!next.delete(i)) next.add(i);
          hidden.value = next;
        }} />
      </div>
      <Inspector model={model} />
    </div>
  );
}

function Hovered({ model, point, left, top, width }: { model: Model; point: number; left: number; top: number; width: number }) {
  const canvas = useRef<HTMLCanvasElement>(null), thumbs = model.facts.thumbnails;
  const has = thumbs !== null && point < thumbs.array.shape[0];
  useEffect(() => {
    if (!has) return;
    const [, h, w, c] = thumbs!.array.shape, all = model.array(thumbs!.array) as Uint8Array;
    paintUnit(canvas.current!, w, h, (p, k) => all[(point * h * w + p) * c + (c === 3 ? k : 0)] / 255);
  }, [model, point]);
  const side = left > width / 2 ? { right: `${width - left + 14}px` } : { left: `${left + 14}px` };
  return (
    <div class="hovered" style={{ ...side, top: `${Math.max(0, top - 30)}px` }}>
      {has && <canvas ref={canvas} class="thumbnail" />}
      <span>{groups.value && <strong>{groups.value.names[groups.value.of[point]]}</strong>} row {model.rowNumbers[point]}{model.elbo && <><br />ELBO {text(model.elbo[point], 4)} nats</>}</span>
    </div>
  );
}

function encloses(polygon: [number, number][], [x, y]: [number, number]): boolean {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ax, ay] = polygon[i], [bx, by] = polygon[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}
