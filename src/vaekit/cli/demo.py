"""`vaekit demo`: from nothing to a page that explores a trained model."""

from pathlib import Path

from rich.console import Console
from rich.markup import escape

from vaekit.cli.console import progress
from vaekit.cli.console.options import Force, NoBrowser
from vaekit.cli.explore import explore
from vaekit.cli.train import train_in_folder
from vaekit.explorer.assets import check_built


def demo(
    *, export: Path | None = None, run_dir: Path | None = None, no_browser: NoBrowser = False, force: Force = False
) -> None:
    """Train on the bundled digits and open the page that explores them, while they are trained.

    For example:

        vaekit demo
        vaekit demo --no-browser
        vaekit demo --export digits.html

    Args:
        export: Write the page into this .html file when training is over, and serve none.
        run_dir: Folder for the run; by default the next free one under runs/.
    """
    Console(highlight=False).print(
        "8x8 pictures of handwritten digits, a Gaussian encoder and a categorical likelihood for each pixel.",
        style="dim",
    )
    check_built()
    if export is not None:
        with progress("starting", None):
            from vaekit.cli.console.writing import check_out

            check_out(export, (".html",), force, "export")
    settings = ("digits", "name=demo")
    run = train_in_folder(settings, run_dir=run_dir, watch=export is None, no_browser=no_browser)
    if export is not None:
        explore(run, export=export, force=force)
        Console(highlight=False).print(f"To have it served: [bold]vaekit explore {escape(str(run))}[/]", soft_wrap=True)
