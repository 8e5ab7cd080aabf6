"""`vaekit report`: one HTML page about a run, or about several side by side."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markup import escape

from vaekit.cli.console import print_json
from vaekit.cli.console.options import FLAG, Force, Json, WholeNumber, check_one_process
from vaekit.errors import ConfigError


def report(
    *runs: Path,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    samples: Annotated[WholeNumber, Parameter(name=["--samples", "-k"])] = 64,
    full_paths: Annotated[bool, FLAG] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write one HTML page with curves, pictures and numbers of a run, or of several side by side.

    For example:

        vaekit report runs/digits-1
        vaekit report runs/tutorial-1 runs/tutorial-score-1 --out ablation.html

    Args:
        runs: Run folders.
        out: The page; by default report.html in the first run's folder.
        samples: K of the importance-weighted bound.
        full_paths: Show whole paths of data and run folders, not their names alone; without it the page can be sent to
            others.
    """
    from vaekit.cli.console.request import check_samples
    from vaekit.cli.console.writing import check_apart, check_out
    from vaekit.report import write_report
    from vaekit.runs.trained_run import read_run
    from vaekit.training import RunFolder

    check_one_process("report")
    check_samples(samples)
    if not runs:
        raise ConfigError("no run: name one or more run folders, as in `vaekit report runs/digits-1`", field="runs")
    if out is not None:
        check_out(out, (".html",), force)
        for folder in map(RunFolder, runs):
            source = read_run(folder)[0].data.source
            for written in (out, out.with_suffix("")):  # the page, and the folder of its pictures
                check_apart(written, folder.path, source)
    page = write_report(runs, out, samples, full_paths=full_paths)
    if json:
        return print_json({"page": str(page), "runs": [str(folder) for folder in runs]})
    Console(highlight=False).print(
        f"Wrote [bold]{escape(str(page))}[/] (open it in a browser; it needs no network)", soft_wrap=True
    )
