"""Checks and warnings of rows, models and results, before an estimate is returned."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Distribution

from vaekit.data import Rows, StreamedRows
from vaekit.errors import DataError, NotFinite, SpecError
from vaekit.evaluation.blocks import Block, Blocks, PerBlock, evaluating
from vaekit.evaluation.results import WHY_NOT_A_LIKELIHOOD
from vaekit.models.distributions.cells import observed
from vaekit.models.distributions.support import has_density, in_words, measure, support_of
from vaekit.models.vae import Draw, Model
from vaekit.randomness import Purpose, new_generator
from vaekit.words import counted

NO_DENSITY = "the posterior is deterministic, a single point for each row: it has no density to bound ln p(x) with"
FAR = "the rows are far from those that the model was trained on"
CLEARLY, ABSURD = 0.5, 100.0  # in logarithms; of a size that should be 1
Progress = Callable[[int], object]


def checked(model: Model, compute: PerBlock, progress: Progress | None) -> PerBlock:
    """`compute`, which first refuses values outside the support, and then reports the number of rows to `progress`."""

    def of_block(block: Block) -> tuple[Tensor, ...]:
        _check_support(model, block)
        found = compute(block)
        if progress is not None:
            progress(len(block.x))
        return found

    return of_block


def check_some(**counts: int) -> None:
    """Refuse data of no rows, and numbers below 1.

    Args:
        counts: Rows of `data`, and other arguments, by name.

    Raises:
        SpecError: There is not one of each.
    """
    for name, count in counts.items():
        if count < 1:
            what = "rows" if name == "data" else name
            raise SpecError(f"got {count} {what}: at least one is needed", field=name, value=count)


def draw_of_first(model: Model, blocks: Blocks) -> Draw:
    """A draw of the first row, which shows what the model's distributions are."""
    block = blocks.block(0)
    with evaluating(model):
        return _draw_first(model, block, new_generator(blocks.seed, Purpose.TRIAL))


def score_warning(px: Distribution) -> str:
    """The warning of a p(x|z) that is no likelihood; else an empty text."""
    return WHY_NOT_A_LIKELIHOOD if measure(px) == "score" else ""


def units_warning(model: Model, blocks: Blocks) -> str:
    """A warning where rows are in other units than those of training; else an empty text.

    Also where they are given unscaled to a model that takes them scaled.

    The first block decides: the root mean square of each column is about 1 where rows are scaled, as `Rows` are.
    Columns that are not, as counts and categories beside others, say nothing.
    """
    scaling = getattr(model, "scaling", None)
    if scaling is None:
        return ""
    x = blocks.x(0).double().flatten(1)
    loc, scale = (torch.tensor(part, dtype=x.dtype, device=x.device) for part in scaling)
    cells = x.shape[1] // len(loc)  # of each channel
    loc, scale = loc.repeat_interleave(cells), scale.repeat_interleave(cells)
    scaled = (loc != 0) | (scale != 1)
    if not scaled.any():
        return ""
    x, loc, scale = x[:, scaled], loc[scaled], scale[scaled]
    largest = float(x.square().mean(0).sqrt().max())
    if isinstance(blocks.data, Rows | StreamedRows):
        far = f"{FAR}, by about {largest:.2g} standard deviations: give them in the same units"
        return far if largest > ABSURD else ""
    given, if_scaled = (_distance(rows) for rows in (x, (x - loc) / scale))
    if given < if_scaled + CLEARLY and largest < ABSURD:
        return ""
    return (
        f"{FAR}, as rows are that are not scaled: it takes (stored - loc) / scale; give rows as they are stored to the "
        "run, open_run(folder).evaluate(rows)"
    )


def _distance(rows: Tensor) -> float:
    """How far the sizes of columns are from 1, in logarithms."""
    return float(rows.square().mean(0).sqrt().clamp_min(1e-30).log().abs().mean())


def joined(*warnings: str) -> str:
    """Several warnings in one text, without those that are empty."""
    return "; ".join(warning for warning in warnings if warning)


def _check_support(model: Model, block: Block) -> None:
    """Refuse values outside the support of the likelihood, whose log-density is some number all the same."""
    x, first = observed(block.x, block.mask), block.first
    generator = new_generator(0, Purpose.TRIAL, device=x.device)
    px = _draw_first(model, block, generator, check=False).px
    support = support_of(px)
    if block.mask is not None:
        inside = has_density(px, x, block.mask)
    else:
        inside = x.isfinite() if support is None else support.check(x)
    bad = ~inside.reshape(len(x), -1).all(1)
    if bad.any():
        row = int(bad.nonzero()[0])
        low, high = float(x[row].min()), float(x[row].max())
        raise DataError(
            f"row {first + row} holds values outside the support of the likelihood ({in_words(support)}), from "
            f"{low:.4g} to {high:.4g}: scale the data",
            field="row",
            value=first + row,
        )


def _draw_first(model: Model, block: Block, generator: torch.Generator, check: bool = True) -> Draw:
    context = None if block.context is None else block.context[:1]
    masked = {name: mask[:1] for name, mask in block.masked.items()}
    return model.draw(block.x[:1], context=context, generator=generator, check=check, **masked)


def check_finite(*rows: Tensor) -> None:
    """Refuse rows (n,) of which one is not finite, by its number."""
    for values in rows:
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            row = int(bad[0])
            raise NotFinite(
                f"the model gives {float(values[row])} for row {row} and {counted(len(bad) - 1, 'other')}: its "
                "weights are out of bounds, or the row is far from what it was trained on; train again with a smaller "
                "learning rate",
                field="row",
                value=row,
            )
