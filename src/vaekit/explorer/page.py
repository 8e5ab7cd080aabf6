"""One file with the page, what it shows and the model as ONNX: it works offline, opened from a disk."""

import base64
import gzip
import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vaekit.errors import ConfigError, NotApplicable
from vaekit.evaluation import evaluating
from vaekit.explorer import assets
from vaekit.explorer.contents import POINTS, collect
from vaekit.explorer.stored_model import StoredModel
from vaekit.export.onnx import TOLERANCE, check_onnx_installed, write_graph
from vaekit.export.stored import examples
from vaekit.files import write_whole
from vaekit.runs import TrainedRun

MOST_BYTES = 50_000_000  # of a model in one page
WEIGHTS = "weights"  # the block that graphs find theirs in
_SHARED = 256  # bytes of the smallest tensor that is worth a place there
_ROWS = 64  # that the graphs are compared with torch on


def write_page(trained: TrainedRun, out: str | Path, *, points: int = POINTS) -> dict[str, float]:
    """Write one HTML file that explores a run without vaekit, a server or a network.

    The model is in it as ONNX, within `TOLERANCE` of torch. Where ln p(x|z) has no such graph, the page does without.

    Args:
        trained: The run.
        out: The file.
        points: Test rows on the map, at most.

    Returns:
        How far the outputs of the graphs are from torch's, the largest beside the larger of the number's size and 1.

    Raises:
        ConfigError: The page is not built, the extra `onnx` is not installed, or the file cannot be written.
        NotApplicable: The model cannot be exported, or is too large for one file.
    """
    out = Path(out)
    assets.check_built()
    check_onnx_installed()
    weights = 4 * sum(weight.numel() for weight in trained.model.parameters())
    if weights > MOST_BYTES:
        raise NotApplicable(
            f"a model of {weights / 1e6:.0f} MB makes no single page, which holds at most {MOST_BYTES / 1e6:.0f} MB: "
            "explore it without --export"
        )
    model = StoredModel(trained)
    graphs, differences, why = _graphs(trained, model)
    contents = collect(trained, points, model)
    facts = contents.facts | {
        "run": Path(contents.facts["run"]).name,
        "command": "",
        "static": {"encoder": True, "decoder": True, "terms": "terms" in graphs, "why": why},
        "parity": {"rows": _ROWS, "tolerance": TOLERANCE, "differences": differences},
    }
    content = single_file(facts, {"bin": contents.arrays, **graphs})
    try:
        write_whole(out, content)
    except OSError as error:
        raise ConfigError(
            f"cannot write {out}: {error.strerror or error}; name another file", field="export", value=out
        ) from None
    return differences


def single_file(facts: Mapping[str, Any], blocks: Mapping[str, bytes]) -> bytes:
    """The page as one file, whose scripts are allowed by their hashes alone.

    Args:
        facts: What `model.json` holds.
        blocks: Bytes by name: the arrays and the graphs.
    """
    style, script = assets.read(assets.STYLE).decode(), assets.read(assets.SCRIPT).decode()
    policy = "; ".join(
        [
            "default-src 'none'",
            f"script-src '{_hash(script)}' 'wasm-unsafe-eval'",
            f"style-src '{_hash(style)}'",
            "img-src data: blob:",
            "media-src blob: data:",
            "worker-src blob:",
        ]
    )
    text = json.dumps(facts, allow_nan=False).replace("<", "\\u003c")
    data = [f'<script type="application/json" id="model">{text}</script>']
    packed = {name: gzip.compress(block, 9, mtime=0) for name, block in blocks.items()}
    packed["wasm"] = assets.read(assets.RUNTIME)
    for name, block in packed.items():
        data.append(f'<script type="text/plain" id="{name}">{base64.b64encode(block).decode()}</script>')
    return fill(
        head=f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{style}</style>',
        data="\n".join(data),
        scripts=f"<script>{script}</script>",
    )


def served_page() -> bytes:
    """The page as a server gives it, whose script asks for all else."""
    return fill('<link rel="stylesheet" href="app.css">', "", '<script src="app.js" defer></script>')


def fill(head: str, data: str, scripts: str) -> bytes:
    """The markup with its three places filled."""
    page = assets.read(assets.PAGE).decode()
    for place, text in (("head", head), ("data", data), ("scripts", scripts)):
        before, after = page.split(f"<!--vaekit:{place}-->")
        page = f"{before}{text}{after}"
    return page.encode()


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _graphs(trained: TrainedRun, model: StoredModel) -> tuple[dict[str, bytes], dict[str, float], str]:
    """The graphs by name, how far each output is from torch's, and why ln p(x|z) is not among them."""
    rows = examples(trained, _ROWS)
    encoder_context = {"context"} if model.encoder.context is not None else set[str]()
    decoder_context = {"context"} if model.decoder.context is not None else set[str]()
    wanted: list[tuple[str, nn.Module, set[str], list[str]]] = [
        ("encoder", model.encoder, {"x"} | encoder_context, ["mean", "scale"]),
        ("decoder", model.decoder, {"z"} | decoder_context, ["mean"]),
        ("terms", model.terms, {"x", "z"} | decoder_context, ["log_likelihood", "log_prior"]),
    ]
    graphs: dict[str, bytes] = {}
    differences: dict[str, float] = {}
    why = ""
    with tempfile.TemporaryDirectory() as folder, evaluating(trained.model):
        for name, module, inputs, outputs in wanted:
            given: dict[str, Tensor] = {key: rows[key] for key in rows if key in inputs}
            path = Path(folder) / f"{name}.onnx"
            try:
                found = write_graph(module, given, outputs, path)
                _check_close(name, found)
            except NotApplicable as error:
                if name != "terms":
                    raise
                why = str(error)
                continue
            graphs[name] = path.read_bytes()
            differences |= {f"{name}.{output}": number for output, number in found.items()}
    return sharing_weights(graphs), differences, why


def sharing_weights(graphs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Graphs whose weights are bytes of one block, `weights`, each of them there once."""
    import onnx
    from onnx.external_data_helper import set_external_data

    found, block, places = dict[str, bytes](), bytearray(), dict[bytes, int]()
    for name, graph in graphs.items():
        model = onnx.load_from_string(graph)
        for tensor in model.graph.initializer:
            content = onnx.numpy_helper.to_array(tensor).tobytes()
            if len(content) < _SHARED:
                continue
            if content not in places:
                block += bytes(-len(block) % 64)
                places[content] = len(block)
                block += content
            tensor.raw_data = content  # what an external tensor has to hold
            set_external_data(tensor, WEIGHTS, places[content], len(content))
            tensor.ClearField("raw_data")
        found[name] = model.SerializeToString()
    return found | {WEIGHTS: bytes(block)}


def _check_close(name: str, differences: Mapping[str, float]) -> None:
    worst = max(differences.values())
    if not worst <= TOLERANCE:
        raise NotApplicable(
            f"the {name} in ONNX differs from torch's by {worst:.3g}, and {TOLERANCE:g} is the most that is taken for "
            "rounding"
        )
