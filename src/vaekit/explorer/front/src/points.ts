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

// Pixel by pixel: 20,000 calls of a canvas's own functions take ten times as long. Pixels are 0xAABBGGRR.
function onCanvas(canvas: HTMLCanvasElement, points: Points): Renderer {
  const pen = canvas.getContext("2d")!;
  const packed = ([r, g, b]: number[]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
  const paper = packed((getComputedStyle(canvas.parentElement!).backgroundColor.match(/[\d.]+/g) ?? [255, 255, 255]).map(Number));
  const shown = Int32Array.from({ length: points.n }, (_, i) => i).filter((i) => points.colours[4 * i + 3] > 0);
  const inks = Uint32Array.from({ length: points.n }, (_, i) => packed(Array.from(points.colours.subarray(4 * i, 4 * i + 3), (v) => 255 * v)));
  let image = pen.createImageData(1, 1), masks: Mask[] = [], side = 0;
  return {
    kind: "canvas",
    draw(view, width, height) {
      const ratio = canvas.width / width, w = canvas.width, h = canvas.height, wanted = Math.ceil(points.size * ratio) + 2;
      if (image.width !== w || image.height !== h || wanted !== side) {
        side = wanted;
        image = pen.createImageData(w, h);
        masks = [0, 1, 2, 3].map((shape) => mask(shape, side, points.size * ratio, w));
      }
      const pixels = new Uint32Array(image.data.buffer).fill(paper);
      for (const i of shown) {
        const left = Math.round(ratio * (width / 2 + (points.x[i] - view.x) * view.scale) - side / 2);
        const top = Math.round(ratio * (height / 2 - (points.y[i] - view.y) * view.scale) - side / 2);
        if (!(left >= 0 && top >= 0 && left + side <= w && top + side <= h)) continue;
        const { places, cover } = masks[points.shapes[i]], start = top * w + left, ink = inks[i], alpha = points.colours[4 * i + 3];
        for (let k = 0; k < places.length; k++) {
          const at = start + places[k], a = Math.round(cover[k] * alpha), below = pixels[at];
          const redBlue = ((ink & 0xff00ff) * a + (below & 0xff00ff) * (256 - a)) >>> 8;
          const green = ((ink & 0xff00) * a + (below & 0xff00) * (256 - a)) >>> 8;
          pixels[at] = 0xff000000 | (redBlue & 0xff00ff) | (green & 0xff00);
        }
      }
      pen.putImageData(image, 0, 0);
    },
    destroy: () => undefined,
  };
}

interface Mask { places: Int32Array; cover: Uint16Array }

// The pixels of a square that a shape covers, as steps in an image of some width, and how much of each, from 0 to 256.
function mask(shape: number, side: number, size: number, width: number): Mask {
  const stamp = document.createElement("canvas");
  stamp.width = stamp.height = side;
  const ink = stamp.getContext("2d")!;
  ink.setTransform(size / 2.2, 0, 0, size / 2.2, side / 2, side / 2);
  ink.fill(new Path2D(pathOf(shape)));
  const { data } = ink.getImageData(0, 0, side, side);
  const covered = Array.from({ length: side * side }, (_, i) => i).filter((i) => data[4 * i + 3] > 0);
  return {
    places: Int32Array.from(covered, (i) => Math.floor(i / side) * width + (i % side)),
    cover: Uint16Array.from(covered, (i) => (data[4 * i + 3] * 256) / 255),
  };
}
