// Points in a plane: by WebGL, so that 100,000 of them move at the rate of the screen, or on a plain canvas without it.

import createRegl, { Regl } from "regl";
import { pathOf } from "./colours";

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

// Pixel by pixel: 20,000 calls of a canvas's own functions take ten times as long.
function onCanvas(canvas: HTMLCanvasElement, points: Points): Renderer {
  const pen = canvas.getContext("2d")!;
  const shown = Array.from({ length: points.n }, (_, i) => i).filter((i) => points.colours[4 * i + 3] > 0);
  const inks = points.colours.map((v) => 255 * v);
  let masks: Float32Array[] = [], side = 0;
  return {
    kind: "canvas",
    draw(view, width, height) {
      const ratio = canvas.width / width, w = canvas.width, h = canvas.height;
      const wanted = Math.ceil(points.size * ratio) + 2;
      if (wanted !== side) { side = wanted; masks = [0, 1, 2, 3].map((shape) => mask(shape, side, points.size * ratio)); }
      const image = pen.createImageData(w, h), pixels = image.data;
      for (const i of shown) {
        const left = Math.round(ratio * (width / 2 + (points.x[i] - view.x) * view.scale) - side / 2);
        const top = Math.round(ratio * (height / 2 - (points.y[i] - view.y) * view.scale) - side / 2);
        if (left < 0 || top < 0 || left + side > w || top + side > h) continue;
        const stamp = masks[points.shapes[i]], r = inks[4 * i], g = inks[4 * i + 1], b = inks[4 * i + 2], alpha = points.colours[4 * i + 3];
        for (let y = 0; y < side; y++) {
          for (let x = 0; x < side; x++) {
            const a = stamp[y * side + x] * alpha;
            if (a === 0) continue;
            const at = 4 * ((top + y) * w + left + x), below = (pixels[at + 3] / 255) * (1 - a), both = a + below;
            pixels[at] = (r * a + pixels[at] * below) / both;
            pixels[at + 1] = (g * a + pixels[at + 1] * below) / both;
            pixels[at + 2] = (b * a + pixels[at + 2] * below) / both;
            pixels[at + 3] = 255 * both;
          }
        }
      }
      pen.putImageData(image, 0, 0);
    },
    destroy: () => undefined,
  };
}

// How much of each pixel of a square a shape covers.
function mask(shape: number, side: number, size: number): Float32Array {
  const stamp = document.createElement("canvas");
  stamp.width = stamp.height = side;
  const ink = stamp.getContext("2d")!;
  ink.setTransform(size / 2.2, 0, 0, size / 2.2, side / 2, side / 2);
  ink.fill(new Path2D(pathOf(shape)));
  const { data } = ink.getImageData(0, 0, side, side);
  return Float32Array.from({ length: side * side }, (_, i) => data[4 * i + 3] / 255);
}
