"""ONNX: an encoder and a decoder, each in a file that runs without vaekit, and their differences from torch."""

import glob
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit import __version__
from vaekit.errors import ConfigError, NotApplicable, VaekitError
from vaekit.evaluation.blocks import evaluating
from vaekit.export.stored import StoredDecoder, StoredEncoder, examples
from vaekit.files import sweep, sync_folder, temporary
from vaekit.runs import TrainedRun

TOLERANCE = 1e-5  # of a number's difference from torch's, beside the larger of its size and 1
ENCODER, DECODER, DESCRIPTION = "encoder.onnx", "decoder.onnx", "export.json"
_ROWS = 64  # that both are tried with
_MOST_SIMPLIFIED = 2000  # operations of a graph: of more, as of a mixture over 256 levels, that would take minutes


@dataclass(frozen=True)
class Exported:
    """An encoder and a decoder in files.

    Attributes:
        folder: With `encoder.onnx`, `decoder.onnx` and `export.json`, which describes them.
        differences: From torch, of each output: the largest over rows that the model made, beside the larger of the
            number's size and 1.
    """

    folder: Path
    differences: Mapping[str, float]


def export_onnx(trained: TrainedRun, out: str | Path, *, force: bool = False) -> Exported:
    """Write the encoder and the decoder of a run as ONNX, and compare both with torch.

    `encoder.onnx` takes `x` and, where it is given one, `context`, and gives `mean` and `scale` of q(z|x).
    `decoder.onnx` takes `z` and, where there is one, `context`, and gives `mean` of p(x|z). Rows are as the data is
    stored, any number of them: see `StoredEncoder` and `StoredDecoder`. `export.json` says what the numbers are.

    Args:
        trained: The run.
        out: The folder to write.
        force: Replace what was exported to this folder before.

    Returns:
        Where they are, and how they differ from torch.

    Raises:
        ConfigError: The extra `onnx` is not installed, or the folder cannot be written or exists.
        NotApplicable: The model cannot be exported, or its numbers differ from torch's by more than `TOLERANCE`.
            Nothing is written then.
    """
    out = Path(out)
    _check_out(out, force)
    check_onnx_installed()
    sweep(out.parent)
    aside = temporary(out)
    try:
        aside.mkdir()
        differences = _export(trained, aside)
        if out.exists():
            out.rename(temporary(out))
        aside.rename(out)
        sync_folder(out.parent)
    except OSError as error:
        raise VaekitError(f"cannot write {out}: {error.strerror or error}") from None
    finally:
        for left in out.parent.glob(f".{glob.escape(out.name)}.{os.getpid()}-*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
    return Exported(out, differences)


def _check_out(out: Path, force: bool) -> None:
    """Refuse a folder that cannot be written, before any work is done."""
    names = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
    why = ""
    if not out.parent.is_dir():
        why = f"there is no folder {out.parent}; make it first"
    elif not os.access(out.parent, os.W_OK | os.X_OK):
        why = f"the folder {out.parent} cannot be written to; name another"
    elif os.path.lexists(out) and not out.is_dir():
        why = "a file of this name exists; give another name"
    elif os.path.lexists(out) and (out.is_symlink() or not names <= {ENCODER, DECODER, DESCRIPTION}):
        why = "it exists and holds more than an exported model; give another name"
    elif os.path.lexists(out) and not force:
        why = "it exists; replace it by force, or give another name"
    if why:
        raise ConfigError(f"cannot export to {out}: {why}", field="out", value=out)


def _export(trained: TrainedRun, folder: Path) -> dict[str, float]:
    rows = examples(trained, _ROWS)
    encoder, decoder = StoredEncoder(trained), StoredDecoder(trained)
    of_encoder = ["x", "context"] if encoder.context is not None else ["x"]
    of_decoder = ["z", "context"] if decoder.context is not None else ["z"]
    differences: dict[str, float] = {}
    with evaluating(trained.model):
        for name, module, inputs, outputs in (
            (ENCODER, encoder, of_encoder, ["mean", "scale"]),
            (DECODER, decoder, of_decoder, ["mean"]),
        ):
            found = write_graph(module, {one: rows[one] for one in inputs}, outputs, folder / name)
            role = name.removesuffix(".onnx")
            differences |= {f"{role}.{output}": number for output, number in found.items()}
    worst = max(differences, key=lambda name: differences[name])
    if not differences[worst] <= TOLERANCE:
        raise NotApplicable(
            f"{worst} of the exported model differs from torch's by {differences[worst]:.3g}, and {TOLERANCE:g} is the "
            "most that is taken for rounding: nothing was written"
        )
    description = _description(trained, encoder, decoder, rows) | {
        "parity": {"rows": _ROWS, "tolerance": TOLERANCE, "differences": differences, "torch": torch.__version__}
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    return differences


def write_graph(module: nn.Module, given: Mapping[str, Tensor], outputs: Sequence[str], path: Path) -> dict[str, float]:
    """Write a module as ONNX, for any number of rows, and compare it with torch.

    Args:
        module: Called with tensors by name.
        given: Rows to try it with.
        outputs: Names of what it returns.
        path: Of the file.

    Returns:
        How far each output is from the module's: see `Exported`.

    Raises:
        NotApplicable: The module cannot be exported.
    """
    _write(module, given, outputs, path)
    return _differences(module, given, outputs, path)


def _write(module: nn.Module, given: Mapping[str, Tensor], outputs: Sequence[str], path: Path) -> None:
    role = path.stem
    with _quietly():
        try:
            program = torch.onnx.export(
                module.eval(),
                kwargs=dict(given),
                dynamo=True,
                dynamic_shapes={name: {0: torch.export.Dim("batch")} for name in given},
                input_names=list(given),
                output_names=list(outputs),
                custom_translation_table={torch.ops.aten.sinh.default: _sinh(), torch.ops.aten.asinh.default: _asinh()},
                optimize=False,
                verbose=False,
            )
        except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError, TypeError) as error:
            raise NotApplicable(f"the {role} cannot be exported: {_reason(error)}") from error
        assert program is not None
        if len(program.model.graph) < _MOST_SIMPLIFIED:
            program.optimize()
    program.save(path)


def _differences(
    module: nn.Module, given: Mapping[str, Tensor], outputs: Sequence[str], path: Path
) -> dict[str, float]:
    """How far each output of a file is from the module's, over all rows and over one alone."""
    import onnxruntime

    found = dict.fromkeys(outputs, 0.0)
    parts = [{name: tensor[rows] for name, tensor in given.items()} for rows in (slice(None), slice(1))]
    try:
        quiet = onnxruntime.SessionOptions()
        quiet.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, quiet, providers=["CPUExecutionProvider"])
        made = [session.run(list(outputs), {name: one.numpy() for name, one in part.items()}) for part in parts]
    except Exception as error:  # onnxruntime's have no class in common
        raise NotApplicable(f"the {path.stem} is not run by onnxruntime: {_reason(error)}") from error
    for part, theirs in zip(parts, made, strict=True):
        with torch.no_grad():
            ours = _tuple(module(**part))
        for name, ours_of, theirs_of in zip(outputs, ours, theirs, strict=True):
            wanted = ours_of.numpy()
            gap = np.abs(np.asarray(theirs_of) - wanted) / np.maximum(np.abs(wanted), 1)
            found[name] = max(found[name], float(gap.max(initial=0)))
    return found


def _description(
    trained: TrainedRun, encoder: StoredEncoder, decoder: StoredDecoder, rows: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What the inputs and the outputs of both files are."""
    schema = trained.schema
    x = {
        "dtype": str(rows["x"].dtype).removeprefix("torch."),
        "shape": ["batch", *encoder.rows.shape],
        "what": "rows as stored",
    }
    if schema.columns is not None:
        fields = {field.name: field for field in schema.fields or ()}
        x["columns"] = [
            {"name": name}
            | ({"kind": fields[name].kind, "categories": list(fields[name].categories)} if name in fields else {})
            for name in schema.columns
        ]
    width = rows["z"].shape[1]
    z = {"dtype": "float32", "shape": ["batch", width], "what": "latents"}
    encoder_inputs, decoder_inputs = {"x": x | ({"missing": "NaN"} if encoder.masked else {})}, {"z": z}
    if schema.context is not None:
        context = {
            "dtype": "float64",
            "shape": ["batch", len(schema.context.names)],
            "names": list(schema.context.names),
        }
        decoder_inputs["context"] = context
        if encoder.context is not None:
            encoder_inputs["context"] = context
    return {
        "format_version": 1,
        "vaekit": __version__,
        "data": {"name": schema.name, "kind": schema.kind, "protocol": schema.protocol},
        "weights": dict(trained.weights),
        "binarised_above": encoder.threshold,
        "encoder": {
            "file": ENCODER,
            "inputs": encoder_inputs,
            "outputs": {
                "mean": z | {"what": "mean of q(z|x); of a discrete z its most probable value"},
                "scale": z | {"what": "standard deviation of q(z|x)"},
            },
        },
        "decoder": {
            "file": DECODER,
            "inputs": decoder_inputs,
            "outputs": {
                "mean": x
                | {"what": "mean of p(x|z), as rows are stored; of a category the number of the most probable one"},
            },
        },
    }


def check_onnx_installed() -> None:
    """Refuse to go on without the packages that write ONNX.

    Raises:
        ConfigError: One of them is not installed.
    """
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"ONNX is written by the package {error.name}, which is not installed: pip install 'vaekit[onnx]'"
        ) from None


def _sinh() -> Callable[[Any], Any]:
    """The function sinh, which onnxruntime lacks in double precision."""
    from onnxscript import opset18

    op: Any = opset18

    def sinh(x: Any) -> Any:
        return op.Div(op.Sub(op.Exp(x), op.Exp(op.Neg(x))), op.CastLike(op.Constant(value_float=2.0), x))

    return sinh


def _asinh() -> Callable[[Any], Any]:
    """The inverse of sinh, which it lacks, too: of |x|, where no digits cancel, with the sign of x."""
    from onnxscript import opset18

    op: Any = opset18

    def asinh(x: Any) -> Any:
        one, size = op.CastLike(op.Constant(value_float=1.0), x), op.Abs(x)
        return op.Mul(op.Sign(x), op.Log(op.Add(size, op.Sqrt(op.Add(op.Mul(size, size), one)))))

    return asinh


def _tuple(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (found,) if isinstance(found, Tensor) else found


def _reason(error: BaseException) -> str:
    """Why there is no such ONNX graph, in a line."""
    while error.__cause__ is not None:
        error = error.__cause__
    if "aten::randn" in str(error):
        return "its mean has no closed form and is estimated from samples"
    if "data-dependent" in str(error):
        return "which operations it takes depends on the numbers, and in an ONNX graph these are fixed"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's remarks on packages that are not installed and on its own future."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield  # a failure prints the whole program
    finally:
        logging.disable(disabled)
