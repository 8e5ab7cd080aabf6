// Builds the page into ../assets: markup, one script, one style sheet, and onnxruntime's WebAssembly, compressed.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { constants, zstdCompressSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "assets");
const RUNTIME = "ort-wasm-simd-threaded.wasm";
const SHA256 = "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"; // of onnxruntime-web 1.30.0

mkdirSync(out, { recursive: true });
await build({
  entryPoints: { app: join(here, "src", "main.tsx") },
  outdir: out,
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "ascii",
  legalComments: "none",
  jsx: "automatic",
  jsxImportSource: "preact",
  define: { "import.meta.url": '"blob:explorer"' },
  logLevel: "warning",
});
copyFileSync(join(here, "index.html"), join(out, "index.html"));

const wasm = readFileSync(join(here, "node_modules", "onnxruntime-web", "dist", RUNTIME));
const found = createHash("sha256").update(wasm).digest("hex");
if (found !== SHA256) throw new Error(`${RUNTIME} has SHA-256 ${found}, and ${SHA256} is expected`);
const level = { params: { [constants.ZSTD_c_compressionLevel]: 19 } };
writeFileSync(join(out, "ort.wasm.zst"), zstdCompressSync(wasm, level));
