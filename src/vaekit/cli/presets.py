"""`vaekit presets`: the presets, or one of them in full."""

from vaekit.cli.console import print_json, print_listing
from vaekit.cli.console.options import Json


def presets(name: str | None = None, /, *, json: Json = False) -> None:
    """List the presets, or print one with every setting written out.

    For example:

        vaekit presets
        vaekit presets tutorial

    Args:
        name: The preset to print.
    """
    from vaekit import runs

    if name is not None:
        run = runs.preset(name)
        return print_json(runs.to_tree(run)) if json else print(runs.to_yaml(run), end="")
    known = {key: runs.make_run(tree).about for key, tree in runs.presets().items()}
    return print_json(known) if json else print_listing(("preset", "what it is"), list(known.items()))
