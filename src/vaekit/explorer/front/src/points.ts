// Points in a plane: by WebGL, so that 100,000 of them move at the rate of the screen, or on a plain canvas without it.

import createRegl, { Regl } from "regl";

export interface View { x: number; y: number; scale: number } // centre in the plane, pixels to a unit
export interface Renderer { draw(view: View, width: number, height: number): void; destroy(): void; kind: string }

export interface Points {
  n: number;
  x: Float32Array;
  y: Float32Array;
  colours: Float32Array; // (n, 4), from 0 to 1
  shapes: Uint8Array; // 0 circle, 1 square, 2 triangle, 3 diamond
  size: number; // pixels across
}

export function renderer(canvas: HTMLCanvasElement, points: Points): Renderer {
  const gl = canvas.getContext("webgl", { antialias: false, premultipliedAlpha: true, preserveDrawingBuffer: true });
  if (gl) {
    try { return byWebGL(gl as WebGLRenderingContext, points); } catch { /* an old driver: drawn without it */ }
    const fresh = canvas.cloneNode() as HTMLCanvasElement; // one that had WebGL has nothing else
    canvas.replaceWith(fresh);
    return onCanvas(fresh, points);
  }
  return onCanvas(canvas, points);
}

function byWebGL(gl: WebGLRenderingContext, points: Points): Renderer {
  const regl: Regl = createRegl({ gl });
  const place = new Float32Array(points.n * 2);
  for (let i = 0; i < points.n; i++) { place[2 * i] = points.x[i]; place[2 * i + 1] = points.y[i]; }
  const draw = regl({
    vert: `
      precision highp float;
      attribute vec2 place; attribute vec4 colour; attribute float shape;
      uniform vec2 centre; uniform vec2 toClip; uniform float size;
      varying vec4 shown; varying float form;
      void main() {
        gl_Position = vec4((place - centre) * toClip, 0, 1);
        gl_PointSize = size;
        shown = colour; form = shape;
      }`,
    frag: `
      precision mediump float;
      varying vec4 shown; varying float form;
      void main() {
        vec2 at = gl_PointCoord * 2.0 - 1.0;
        float far = form < 0.5 ? length(at) : form < 1.5 ? max(abs(at.x), abs(at.y)) / 0.86
          : form < 2.5 ? max(abs(at.x) * 1.7 + (-at.y) * 0.9, at.y * 1.15) / 0.95 : (abs(at.x) + abs(at.y));
        if (far > 1.0) discard;
        gl_FragColor = vec4(shown.rgb * shown.a, shown.a);
      }`,
    attributes: {
      place: regl.buffer(place), colour: regl.buffer(points.colours), shape: regl.buffer(Float32Array.from(points.shapes)),
    },
    uniforms: {
      centre: regl.prop<Record<string, unknown>, string>("centre"), toClip: regl.prop<Record<string, unknown>, string>("toClip"),
      size: regl.prop<Record<string, unknown>, string>("size"),
    },
    count: points.n,
    primitive: "points",
    depth: { enable: false },
    blend: { enable: true, func: { src: "one", dst: "one minus src alpha" } },
  });
  return {
    kind: "webgl",
    draw(view, width, height) {
      regl.poll();
      regl.clear({ color: [0, 0, 0, 0] });
      draw({
        centre: [view.x, view.y], toClip: [(2 * view.scale) / width, (2 * view.scale) / height],
        size: points.size * (gl.drawingBufferWidth / width),
      });
    },
    destroy: () => regl.destroy(),
  };
}

function onCanvas(canvas: HTMLCanvasElement, points: Points): Renderer {
  const pen = canvas.getContext("2d")!;
  const colours = new Map<string, number[]>();
  for (let i = 0; i < points.n; i++) {
    const [r, g, b, a] = points.colours.subarray(4 * i, 4 * i + 4);
    const key = `rgba(${Math.round(255 * r)},${Math.round(255 * g)},${Math.round(255 * b)},${a.toFixed(2)})`;
    const group = colours.get(key);
    if (group) group.push(i); else colours.set(key, [i]);
  }
  return {
    kind: "canvas",
    draw(view, width, height) {
      const ratio = canvas.width / width, side = points.size * 0.8;
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, width, height);
      for (const [colour, group] of colours) {
        if (colour.endsWith(",0.00)")) continue;
        pen.fillStyle = colour;
        for (const i of group) {
          pen.fillRect(
            width / 2 + (points.x[i] - view.x) * view.scale - side / 2, height / 2 - (points.y[i] - view.y) * view.scale - side / 2, side, side,
          );
        }
      }
    },
    destroy: () => undefined,
  };
}
