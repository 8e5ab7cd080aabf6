"""`vaekit recommend`: the items that users would most probably choose next, and how well held-out ones are ranked."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from vaekit.cli.console import print_estimates, print_json, print_written, progress
from vaekit.cli.console.options import (
    Force,
    Json,
    RunPath,
    Weights,
    WholeNumber,
    check_at_least,
    check_one_process,
)
from vaekit.errors import ConfigError
from vaekit.words import counted

if TYPE_CHECKING:
    import numpy as np

    from vaekit.data import Interactions
    from vaekit.runs import TrainedRun
    from vaekit.uses import Recommended

ENDINGS = (".csv", ".parquet", ".feather")


def recommend(
    run: RunPath,
    data: Annotated[
        str | None, Parameter(help="Interactions to start from, by path; by default those of the run's own data.")
    ] = None,
    /,
    *,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    top: Annotated[WholeNumber, Parameter(name=["--top", "-n"])] = 20,
    held_out: str | None = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Rank the items that each user has not had, for a run on interactions of users with items.

    For example:

        vaekit recommend runs/log-1 --out top.csv
        vaekit recommend runs/log-1 new-users.csv --top 5 --out top.csv
        vaekit recommend runs/log-1 --held-out test.csv

    Args:
        out: File to write, .csv, .parquet or .feather: user, rank, item, score; the score is the mean of p(x|z).
        top: N, items for each user.
        held_out: Other interactions of the same users, by path, of which recall and NDCG at N are measured. The
            protocol is weak generalisation: the model may have been trained on the users' other items.
    """
    from vaekit.cli.console.request import open_on_device
    from vaekit.cli.console.writing import check_apart, check_out, write_rows
    from vaekit.uses import ranking
    from vaekit.uses import recommend as recommended

    check_one_process("recommend")
    check_at_least(1, top=top)
    if out is None and held_out is None:
        raise ConfigError("neither --out nor --held-out is given: name a file to write, or one to measure", field="out")
    if out is not None:
        check_out(out, ENDINGS, force)
    trained, _ = open_on_device(run, weights)
    if out is not None:
        check_apart(out, trained.folder.path, trained.settings.data.source, data, held_out)
    seen = trained.interactions(data)
    measured = None if held_out is None else trained.interactions(held_out, seen.users, other_items=True)
    users, found = len(seen.users), {}
    if measured is not None:
        with progress("ranking held-out items", users) as advance:
            found = ranking(trained, seen, measured, top=top, progress=advance)
        about = _protocol(trained, seen, measured)
        if json and out is None:
            return print_json({"protocol": about, **{name: one.as_dict() for name, one in found.items()}})
        console = Console(highlight=False, quiet=json)
        console.print(about, soft_wrap=True, markup=False)
        print_estimates(console, found)
    if out is not None:
        with progress("ranking items", users) as advance:
            best = recommended(trained, seen, top=top, progress=advance)
        write_rows(out, [_columns(best)], best.items.size)
        print_written(
            json,
            out,
            users,
            f"users, the {counted(top, 'item')} of highest mean of p(x|z), without those they have had",
        )


def _protocol(trained: "TrainedRun", seen: "Interactions", held_out: "Interactions") -> str:
    other = len(held_out.items) - len(seen.items)
    notes = [f"; {counted(other, 'item')} unknown to the model, and never found"] if other else []
    if held_out.unknown:
        notes += [f"; {counted(held_out.unknown, 'interaction')} of other users left out"]
    return (
        f"weak generalisation: {held_out.matrix.nnz:,} held-out interactions of {counted(len(seen.users), 'user')} of "
        f"{trained.schema.name}, among {len(seen.items):,} items without those they have had{''.join(notes)}"
    )


def _columns(best: "Recommended") -> "dict[str, np.ndarray]":
    import numpy as np

    top = best.items.shape[1]
    return {
        "user": np.repeat(np.array(best.users), top),
        "rank": np.tile(np.arange(1, top + 1), len(best.users)),
        "item": best.items.ravel(),
        "score": best.scores.ravel(),
    }
