"""`vaekit explore`: the latent space of a run in the browser, served on this machine or as one file."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.markup import escape

from vaekit.cli.console import print_json, progress
from vaekit.cli.console.options import (
    FLAG,
    Force,
    Json,
    NoBrowser,
    RunPath,
    Weights,
    WholeNumber,
    check_at_least,
    check_one_process,
)
from vaekit.errors import ConfigError

POINTS = 5_000


def explore(
    run: RunPath,
    /,
    *,
    export: Path | None = None,
    watch: Annotated[bool, FLAG] = False,
    port: WholeNumber = 0,
    no_browser: NoBrowser = False,
    points: WholeNumber = POINTS,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Move through the latent space of a run on a page in the browser.

    The page shows the map of the codes, sliders of z, the manifold, reconstructions, interpolation, arithmetic and the
    run's health. It is served on this machine alone, until Ctrl-C; with --export it is one file that works offline.

    For example:

        vaekit explore runs/digits-1
        vaekit explore runs/digits-1 --export digits.html
        vaekit explore runs/digits-1 --watch

    Args:
        export: Write the page and the model into this .html file in place of serving it.
        watch: Of a run that is still trained: show what is saved as it changes.
        port: Of the page's address; by default a free one.
        points: Rows on the map, at most 20,000, drawn from the test rows.
    """
    from vaekit.cli.console.writing import check_apart, check_out

    check_one_process("explore")
    check_at_least(1, points=points)
    if port > 65_535:
        raise ConfigError(f"port is {port}: it should be at most 65535", field="port", value=port)
    if export is not None:
        if watch:
            raise ConfigError("--export writes a page that does not change: leave --watch out", field="watch")
        check_out(export, (".html",), force, "export")
        with progress("exporting", None):
            from vaekit.explorer import write_page
            from vaekit.runs import open_run

            trained = open_run(run, weights)
            check_apart(export, trained.folder.path, trained.settings.data.source, option="export")
            differences = write_page(trained, export, points=points)
        size = export.stat().st_size
        if json:
            return print_json({"out": str(export), "bytes": size, "differences": differences})
        return Console(highlight=False).print(
            f"Wrote [bold]{escape(str(export))}[/] ({size / 1e6:.1f} MB; open it in a browser; it needs no network)",
            soft_wrap=True,
        )
    with progress("reading the run", None):
        from vaekit.explorer import Explorer, serve
        from vaekit.explorer.server import check_ready

        check_ready()
        explorer = Explorer(run, weights, points, watch)

    def ready(address: str) -> None:
        if json:
            return print_json({"address": address})
        Console(highlight=False).print(f"[bold]{address}[/] shows {escape(str(run))}; Ctrl-C ends it", soft_wrap=True)

    with suppress(KeyboardInterrupt):
        serve(explorer, port, browser=not no_browser, ready=ready)
