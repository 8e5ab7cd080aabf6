"""Recommendations: the items that a user would most probably choose next, and how well held-out ones are ranked.

The score of an item is the mean of p(x|z) for it, at the mean of q(z|x) of the user's items; items that a user has had
already are left out of the ranking.

Source: Liang et al., 2018, "Variational autoencoders for collaborative filtering", arXiv 1802.05814.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vaekit.data import Interactions, Rows, StreamedRows
from vaekit.errors import DataError, SpecError
from vaekit.evaluation.blocks import evaluating
from vaekit.evaluation.estimate import Estimate, mean_of
from vaekit.evaluation.results import unit_of
from vaekit.models.distributions.codes import centre
from vaekit.randomness import Purpose, new_generator
from vaekit.uses.trained import Trained, device_of

Progress = Callable[[int], object]
_AT_ONCE = 8_000_000  # scores of a block of users


@dataclass(frozen=True, eq=False)
class Recommended:
    """For each user, the items with the highest scores, the best first.

    Attributes:
        users: Their names, (n,).
        items: Names of items, (n, top); empty where a user has had all others.
        scores: (n, top), the mean of p(x|z) for each; NaN likewise.
    """

    users: tuple[str, ...]
    items: np.ndarray
    scores: np.ndarray


def recommend(
    trained: Trained, interactions: Interactions, *, top: int = 20, progress: Progress | None = None
) -> Recommended:
    """The items that users would most probably choose next, without those that they have had.

    Args:
        trained: A run on interactions of users with items.
        interactions: Of the users, over the run's items; see `TrainedRun.interactions`.
        top: How many items for each user.
        progress: Called with the number of users done since the last call.

    Raises:
        SpecError: `top` is below 1.
        DataError: The interactions are over other items than the model's.
    """
    names = np.array(interactions.items)
    items, scores = [], []
    for best, values in _rankings(trained, interactions, top, progress):
        known = values.isfinite().numpy()
        items += [np.where(known, names[best.numpy()], "")]
        scores += [np.where(known, values.numpy(), np.nan)]
    return Recommended(interactions.users, np.concatenate(items), np.concatenate(scores))


def ranking(
    trained: Trained, seen: Interactions, held_out: Interactions, *, top: int = 20, progress: Progress | None = None
) -> dict[str, Estimate]:
    """How many held-out items are among the first of a user's ranking, and how near its beginning.

    Recall at N is the share of a user's held-out items that are among the first N. NDCG at N is the sum of
    1 / log2(1 + place) over those, divided by what it would be if the ranking began with the held-out items.

    Args:
        trained: A run on interactions of users with items.
        seen: What the model is given of each user, and leaves out of the ranking.
        held_out: Other interactions of the same users, over the same items and then others, which are never found.
        top: N.
        progress: Called with the number of users done since the last call.

    Returns:
        `recall_at_N` and `ndcg_at_N`, means over the users with held-out items, with standard errors over them.

    Raises:
        SpecError: `top` is below 1.
        DataError: No user has a held-out item, or the interactions are over other items than the model's.
    """
    if (seen.users, seen.items) != (held_out.users, held_out.items[: len(seen.items)]):
        raise SpecError("seen and held_out are of other users or items: make both for the same", field="held_out")
    wanted = held_out.matrix.tocsr() > 0
    counts = torch.from_numpy(np.asarray(wanted.sum(1)).ravel().astype(np.float64))
    sought = wanted[:, : len(seen.items)]
    if not counts.any():
        raise DataError("no user has a held-out item: there is nothing to rank", field="held_out")
    gains = 1 / torch.arange(2, top + 2, dtype=torch.float64).log2()
    recall, ndcg, start = [], [], 0
    for best, values in _rankings(trained, seen, top, progress):
        stop = start + len(best)
        found = torch.from_numpy(sought[start:stop].toarray()).gather(1, best) & values.isfinite()
        count = counts[start:stop]
        ideal = gains.cumsum(0)[count.clamp(1, len(gains)).long() - 1]
        recall += [found.sum(1) / count]
        ndcg += [(found * gains[: found.shape[1]]).sum(1) / ideal]
        start = stop
    having = counts > 0
    return {
        f"recall_at_{top}": mean_of(torch.cat(recall)[having], unit_of("recall_at")),
        f"ndcg_at_{top}": mean_of(torch.cat(ndcg)[having], unit_of("ndcg_at")),
    }


def hold_out(interactions: Interactions, share: float = 0.2, seed: int = 0) -> tuple[Interactions, Interactions]:
    """Divide each user's items at random: what is seen, and at least one that is held out where there are two.

    Args:
        interactions: Of users with items.
        share: Of the items of each user that is held out, rounded down.
        seed: Of the choice.

    Raises:
        SpecError: `share` is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise SpecError(f"share is {share}: it should lie between 0 and 1, as 0.2", field="share", value=share)
    matrix = interactions.matrix.tocsr()
    keys = torch.rand(matrix.nnz, generator=new_generator(seed, Purpose.HELD_OUT_ITEMS)).numpy()
    held = np.zeros(matrix.nnz, bool)
    for start, stop in zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True):
        count = max(1, int(share * (stop - start))) if stop - start > 1 else 0
        held[start + keys[start:stop].argsort(kind="stable")[:count]] = True
    parts = []
    for chosen in (~held, held):
        part = matrix.copy()
        part.data = np.where(chosen, part.data, 0).astype(part.data.dtype)
        part.eliminate_zeros()
        parts += [replace(interactions, matrix=part)]
    return parts[0], parts[1]


def interactions_in(trained: Trained, rows: Rows | StreamedRows) -> Interactions:
    """The interactions of users in rows as the model takes them, such as those of a split; users are numbered."""
    from scipy import sparse

    items = trained.schema.columns or ()
    at_once = max(1, _AT_ONCE // len(items))
    blocks = [slice(start, min(start + at_once, len(rows))) for start in range(0, len(rows), at_once)]
    matrix = sparse.vstack([sparse.csr_array(rows.batch(block).cpu().numpy()) for block in blocks], "csr")
    return Interactions(tuple(map(str, range(len(rows)))), items, matrix, 0, 0)


def _rankings(
    trained: Trained, seen: Interactions, top: int, progress: Progress | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers and scores (n, top) of the best items of each block of users; -inf for one that has been had."""
    if top < 1:
        raise SpecError(f"top is {top}: it should be at least 1", field="top", value=top)
    if seen.items != (trained.schema.columns or ()):
        raise DataError("these interactions are over other items than the model's", field="interactions")
    matrix, device = seen.matrix.tocsr(), device_of(trained)
    at_once = max(1, min(4096, _AT_ONCE // len(seen.items)))
    for start in range(0, matrix.shape[0], at_once):
        some = matrix[start : start + at_once]
        rows = trained.rows(some).to(device)
        with evaluating(trained.model):
            scores = _scores(trained.model, **rows.inputs(slice(0, len(rows)))).cpu().double()
        scores[torch.from_numpy(some.toarray() > 0)] = -torch.inf
        best = scores.topk(min(top, scores.shape[1]))
        yield best.indices, best.values
        if progress is not None:
            progress(len(rows))


def _scores(model: Any, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    code = model.encode(x, context) if mask is None else model.encode(x, context, mask)
    return model.decode([centre(q) for q in code.posteriors], context).mean
