"""`vaekit export`: a trained model as files that other programs run."""

from typing import Annotated, Literal

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from vaekit.cli.console import print_json, progress
from vaekit.cli.console.options import Force, Json, Out, RunPath, Weights, check_one_process


def export(
    run: RunPath,
    /,
    *,
    out: Out,
    format: Annotated[Literal["onnx"], Parameter(name="--format")] = "onnx",
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the encoder and the decoder for programs that run without vaekit and torch.

    For example:

        vaekit export runs/digits-1 --out digits-onnx
        vaekit export runs/table-1 --format onnx --weights last --out table-onnx

    Args:
        out: Folder to write: encoder.onnx (rows as they are stored to the mean and scale of q(z|x)), decoder.onnx (z
            to the mean of p(x|z), as rows are stored) and export.json (what goes in and comes out of both, and how far
            they are from torch).
        format: Of the files.
    """
    from vaekit.cli.console.writing import check_apart
    from vaekit.export import export_onnx
    from vaekit.runs import open_run

    check_one_process("export")
    trained = open_run(run, weights)
    check_apart(out, trained.folder.path, trained.settings.data.source)
    with progress("exporting", None):
        found = export_onnx(trained, out, force=force)
    if json:
        return print_json({"out": str(found.folder), "format": format, "differences": dict(found.differences)})
    worst = max(found.differences.values())
    Console(highlight=False).print(
        f"Wrote [bold]{escape(str(found.folder))}[/]: encoder.onnx and decoder.onnx, within {worst:.1g} of torch, and "
        "export.json, which says what goes in and comes out",
        soft_wrap=True,
    )
