// Reconstruct: a row of the data, an uploaded or a drawn one, and what encoder and decoder make of it.

import { useEffect, useRef, useState } from "preact/hooks";
import { Bound } from "./backend";
import { text } from "./maths";
import { Model, Numbers } from "./model";
import { ContextChooser, RowChooser } from "./parts";
import { ErrorMap, paint, Row } from "./row";
import { answers, context, row, z } from "./state";

interface Result { mean: Numbers; draws: Numbers[]; bound: Bound; code: Float32Array }

export function ReconstructPanel({ model }: { model: Model }) {
  const [own, setOwn] = useState<Numbers | null>(null), [from, setFrom] = useState<"row" | "draw" | "own">("row");
  const [result, setResult] = useState<Result | null>(null), [problem, setProblem] = useState("");
  const picked = Math.min(row.value, model.rowCount - 1);
  const x = from !== "row" && own ? own : model.row(picked);
  const { kind } = model.facts;

  useEffect(() => {
    if (from !== "row") return;
    const beside = model.contextOf(picked);
    if (beside) context.value = beside;
  }, [model, picked, from]);

  useEffect(() => {
    let over = false;
    (async () => {
      try {
        const { mean: code } = await answers().encode(x, 1, context.value);
        const mean = await answers().decode(code, 1, context.value);
        const bound = await answers().bound(x, 64, 0, context.value);
        const draws: Numbers[] = [];
        for (let k = 0; k < 4; k++) draws.push(await answers().decode(bound.z.slice(k * model.latents, (k + 1) * model.latents), 1, context.value));
        if (over) return;
        if ([code, mean].some((part) => part.some((v) => !Number.isFinite(v)))) throw new Error("The model gives numbers that are not finite for this row.");
        setResult({ mean, draws, bound, code });
        setProblem("");
      } catch (error) {
        if (!over) { setProblem((error as Error).message); setResult(null); }
      }
    })();
    return () => { over = true; };
  }, [model, picked, own, from, context.value]);

  return (
    <div class="main">
      <div class="row-of-controls">
        <label>Input
          <select value={from} onChange={(e) => { const to = e.currentTarget.value as typeof from; if (to !== "row" && !own) setOwn(blank(model)); setFrom(to); }}>
            <option value="row">a row of the data</option>
            {kind === "image" && <option value="draw">a drawing</option>}
            {(kind === "image" || kind === "table") && <option value="own">{kind === "image" ? "a picture file" : "cells of your own"}</option>}
          </select>
        </label>
        {from === "row" && <RowChooser model={model} label="Row" value={picked} onChange={(i) => { row.value = i; }} />}
        {from === "own" && kind === "image" && <Upload model={model} onRow={setOwn} onProblem={setProblem} />}
        {result && <button type="button" onClick={() => { z.value = result.code; }}>Take its code as z</button>}
      </div>
      {from === "draw" && <Drawing model={model} onRow={setOwn} />}
      {from === "own" && kind === "table" && <Form model={model} x={own ?? blank(model)} onRow={setOwn} />}
      <ContextChooser model={model} />
      {problem && <p class="problem" role="alert">{problem}</p>}
      {result && (
        <div aria-live="polite">
          <div class={kind === "table" ? "panes tables" : "panes"}>
            <Pane name="Input"><Row model={model} x={x} label="Input" /></Pane>
            <Pane name="Mean of p(x|z)"><Row model={model} x={result.mean} decoded label="Reconstruction" beside={kind === "table" || kind === "series" ? x : undefined} /></Pane>
            {kind === "image" && <Pane name="Absolute error"><ErrorMap model={model} x={x} mean={result.mean} /></Pane>}
          </div>
          <Terms model={model} bound={result.bound} />
          {kind !== "table" && <>
            <h3>At four z drawn from q(z|x)</h3>
            <div class="panes small">{result.draws.map((draw, k) => <Pane key={k} name={`draw ${k + 1}`}><Row model={model} x={draw} decoded label={`Draw ${k + 1}`} /></Pane>)}</div>
          </>}
        </div>
      )}
    </div>
  );
}

const Pane = ({ name, children }: { name: string; children: preact.ComponentChildren }) => (
  <figure class="pane"><figcaption>{name}</figcaption>{children}</figure>
);

function Terms({ model, bound }: { model: Model; bound: Bound }) {
  const terms: [string, number | null, string][] = [
    ["ln p(x|z)", bound.log_likelihood, "mean over 64 z from q(z|x)"],
    ["KL(q(z|x) || p(z))", bound.kl, ""],
    ["ELBO", bound.elbo, bound.error === null ? "" : `± ${text(bound.error, 2)}`],
  ];
  if (bound.log_likelihood === null) {
    return <p class="note">{model.facts.static?.why || "ln p(x|z) of this model is computed by the server alone: run vaekit explore."}</p>;
  }
  let share: number | null = null;
  if (model.elbo && bound.elbo !== null) {
    let below = 0;
    for (const v of model.elbo) below += Number(v < bound.elbo);
    share = below / model.elbo.length;
  }
  return (
    <>
      <dl class="terms">
        {terms.map(([name, value, more]) => <div key={name}><dt>{name}</dt><dd>{value === null ? "not known" : `${text(value, 4)} nats`} <span class="note">{more}</span></dd></div>)}
        {share !== null && <div><dt>Among the rows</dt><dd>percentile {Math.round(100 * share)} <span class="note">so many % of {model.n} rows have a lower ELBO</span></dd></div>}
      </dl>
      {share !== null && (
        <div class="meter" role="img" aria-label={`ELBO at percentile ${Math.round(100 * share)} of the test rows`}><span style={{ width: `${100 * share}%` }} /></div>
      )}
    </>
  );
}

function blank(model: Model): Numbers {
  const { image, size, columns } = model.facts.x;
  if (image) return model.numbers(new Float32Array(size).fill(image.low));
  if (columns) return model.row(0);
  return model.numbers(new Float32Array(size));
}

function Drawing({ model, onRow }: { model: Model; onRow: (x: Numbers) => void }) {
  const canvas = useRef<HTMLCanvasElement>(null), about = model.facts.x.image!;
  const unit = useRef(new Float32Array(about.height * about.width)), [wide, setWide] = useState(Math.max(1, Math.round(about.width / 14)));
  const [cursor, setCursor] = useState<[number, number]>([Math.floor(about.width / 2), Math.floor(about.height / 2)]);
  const send = () => onRow(fromUnit(model, (p) => unit.current[p]));
  const show = () => paint(canvas.current!, model, fromUnit(model, (p) => unit.current[p]), false);
  useEffect(show, []);
  const stroke = (px: number, py: number) => {
    for (let y = 0; y < about.height; y++) {
      for (let x = 0; x < about.width; x++) {
        const far = Math.hypot(x + 0.5 - px, y + 0.5 - py), value = Math.max(0, Math.min(1, wide + 0.5 - far));
        unit.current[y * about.width + x] = Math.max(unit.current[y * about.width + x], value);
      }
    }
    show();
  };
  const pointer = (e: PointerEvent) => {
    if (!e.buttons) return;
    const rect = canvas.current!.getBoundingClientRect();
    stroke(((e.clientX - rect.left) / rect.width) * about.width, ((e.clientY - rect.top) / rect.height) * about.height);
  };
  const key = (e: KeyboardEvent) => {
    const moves: Record<string, [number, number]> = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[e.key]) {
      e.preventDefault();
      setCursor([Math.max(0, Math.min(about.width - 1, cursor[0] + moves[e.key][0])), Math.max(0, Math.min(about.height - 1, cursor[1] + moves[e.key][1]))]);
    } else if (e.key === " " || e.key === "Enter") { e.preventDefault(); stroke(cursor[0] + 0.5, cursor[1] + 0.5); send(); }
  };
  return (
    <div class="drawing">
      <canvas ref={canvas} class="picture large" tabIndex={0} role="application" aria-label={`Canvas to draw on. Arrow keys move the pen, space draws; the pen is at ${cursor[0]}, ${cursor[1]}.`}
        onPointerDown={(e) => { e.currentTarget.setPointerCapture(e.pointerId); pointer(e); }} onPointerMove={pointer} onPointerUp={send} onKeyDown={key} />
      <div class="row-of-controls">
        <label>Pen <input type="range" min={0.5} max={4} step={0.5} value={wide} onInput={(e) => setWide(Number(e.currentTarget.value))} /></label>
        <button type="button" onClick={() => { unit.current.fill(0); show(); send(); }}>Clear</button>
      </div>
    </div>
  );
}

// A row with these brightnesses, from 0 to 1, in the units in which rows are stored.
function fromUnit(model: Model, unit: (pixel: number, channel: number) => number): Numbers {
  const about = model.facts.x.image!, pixels = about.height * about.width, x = new Float64Array(model.facts.x.size);
  for (let p = 0; p < pixels; p++) {
    for (let c = 0; c < about.channels; c++) {
      let value = about.low + unit(p, c) * (about.high - about.low);
      if (about.levels) value = Math.round(value);
      x[about.order.endsWith("c") ? p * about.channels + c : c * pixels + p] = value;
    }
  }
  return model.numbers(x);
}

function Upload({ model, onRow, onProblem }: { model: Model; onRow: (x: Numbers) => void; onProblem: (why: string) => void }) {
  const about = model.facts.x.image!;
  const read = async (file: File | undefined) => {
    if (!file) return;
    try {
      const bitmap = await createImageBitmap(file), canvas = document.createElement("canvas");
      canvas.width = about.width;
      canvas.height = about.height;
      const pen = canvas.getContext("2d")!;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(bitmap, 0, 0, about.width, about.height);
      const { data } = pen.getImageData(0, 0, about.width, about.height);
      onRow(fromUnit(model, (p, c) => about.channels >= 3 ? data[4 * p + c] / 255 : (0.299 * data[4 * p] + 0.587 * data[4 * p + 1] + 0.114 * data[4 * p + 2]) / 255));
      onProblem("");
    } catch {
      onProblem(`${file.name} is no picture that this browser reads: choose a PNG or JPEG file`);
    }
  };
  return <label>Picture <input type="file" accept="image/*" onChange={(e) => read(e.currentTarget.files?.[0])} /></label>;
}

function Form({ model, x, onRow }: { model: Model; x: Numbers; onRow: (x: Numbers) => void }) {
  const change = (j: number, value: number) => { const next = x.slice() as Numbers; next[j] = value; onRow(next); };
  return (
    <fieldset class="form">
      <legend>Cells</legend>
      {model.facts.x.columns!.slice(0, 200).map((about, j) => (
        <label key={j}>{about.name}
          {about.categories ? (
            <select value={Number.isNaN(x[j]) ? "missing" : String(x[j])} onChange={(e) => change(j, e.currentTarget.value === "missing" ? NaN : Number(e.currentTarget.value))}>
              {model.facts.x.missing && <option value="missing">missing</option>}
              {about.categories.map((name, k) => <option key={k} value={String(k)}>{name}</option>)}
            </select>
          ) : (
            <input type="number" step="any" value={Number.isNaN(x[j]) ? "" : x[j]} placeholder={model.facts.x.missing ? "missing" : ""} onChange={(e) => {
              const given = e.currentTarget.value;
              if (given === "" && model.facts.x.missing) change(j, NaN);
              else if (given !== "" && Number.isFinite(Number(given))) change(j, Number(given));
              else e.currentTarget.value = String(x[j]);
            }} />
          )}
        </label>
      ))}
    </fieldset>
  );
}
