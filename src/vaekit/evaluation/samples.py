"""How close generated rows are to real ones, and how various: distances and neighbourhoods in a space of features.

The features decide what the numbers mean; those of other features cannot be compared, so every estimate names them.
"""

import math

import torch
from torch import Tensor

from vaekit.errors import DataError, SpecError
from vaekit.evaluation.blocks import Data
from vaekit.evaluation.estimate import Estimate
from vaekit.evaluation.features import Extractor, features_of
from vaekit.evaluation.results import unit_of

GIVEN = unit_of("kid", "the features given")
GROUPS = 10  # of the jackknife
ROWS_AT_ONCE = 500  # of a matrix of distances


def sample_quality(features: Extractor, data: Data, generated: Data, k: int = 5, seed: int = 0) -> dict[str, Estimate]:
    """Frechet distance, KID, precision, recall, density and coverage of generated rows against real ones.

    Args:
        features: What they are compared in: `choose_features(training rows)`, or a module of one's own with a `name`.
        data: Real rows, best of the test set: a model may have memorised those that it was trained on.
        generated: x (n, *data), as from `model.generate(n)`; as many as there are real rows are best.
        k: Neighbours, of precision, recall, density and coverage.
        seed: Of binarisation.
    """
    real, made = features_of(features, data, seed), features_of(features, generated, seed)
    about = unit_of("kid", features.name)
    return {
        "frechet_distance": frechet_distance(real, made, about),
        "kid": kid(real, made, about),
        **prdc(real, made, k, about),
    }


def frechet_distance(real: Tensor, generated: Tensor, about: str = GIVEN) -> Estimate:
    """The squared Frechet (2-Wasserstein) distance of two Gaussians with the means and covariances of the rows.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), of means m and covariances S.

    With few rows it is too large, even where both are alike; the warning says by about how much, where that is more
    than the error. Error and bias: jackknife over 10 groups of rows, left out in turn.

    Source: Heusel et al., 2017, arXiv 1706.08500, equation 6, there of Inception features.

    Args:
        real: features (n, d), n > 10; more than d, or the covariance is singular.
        generated: The same of generated rows.
        about: Of the estimate, where another library would write a unit.
    """
    _check(real, generated, GROUPS + 1)
    real, generated = real.double(), generated.double()
    value, n = _frechet(real, generated), min(len(real), len(generated))
    kept = zip(_kept(len(real))[1:], _kept(len(generated))[1:], strict=True)
    left_out = [_frechet(real[rows], generated[others]) for rows, others in kept]
    stderr, bias = _jackknife(value, torch.stack(left_out))
    text = f"with {n} rows it is too large by about {float(bias):.2g}" if bias > stderr else ""
    if n <= real.shape[1]:
        text = f"{n} rows are too few for the covariance of {real.shape[1]} features, so it is too large: use more rows"
    return Estimate(float(value), float(stderr), n, about, text)


def kid(real: Tensor, generated: Tensor, about: str = GIVEN) -> Estimate:
    """Kernel distance: the unbiased squared maximum mean discrepancy with the kernel (a.b / d + 1)^3.

    Its mean is 0 where both distributions are the same, so it can be negative; and it is the same however many rows
    there are. Over all pairs of rows; error: jackknife over 10 groups of rows. (Means over subsets of 1000 rows, as
    they are often given, have the same expectation and a larger error.)

    Source: Binkowski et al., 2018, arXiv 1801.01401, section 3, there of Inception features.

    Args:
        real: features (n, d), n > 20.
        generated: The same of generated rows.
        about: Of the estimate, where another library would write a unit.
    """
    _check(real, generated, 2 * GROUPS + 1)
    real, generated = real.double(), generated.double()
    sums = torch.stack([_kernel_sums(*pair) for pair in ((real, real), (generated, generated), (real, generated))])
    counts = [torch.tensor([len(part) for part in _groups(x)]).double() for x in (real, generated)]
    kept = torch.cat([torch.ones(1, GROUPS), 1 - torch.eye(GROUPS)]).double()  # all groups, then all but each
    among_real, among_generated, between = torch.einsum("vg,sgh,vh->sv", kept, sums, kept)
    n, m = (kept @ count for count in counts)
    found = among_real / (n * (n - 1)) + among_generated / (m * (m - 1)) - 2 * between / (n * m)
    stderr, _ = _jackknife(found[0], found[1:])
    return Estimate(float(found[0]), float(stderr), min(len(real), len(generated)), about)


def prdc(real: Tensor, generated: Tensor, k: int = 5, about: str = GIVEN) -> dict[str, Estimate]:
    """Precision, recall, density and coverage, by balls around rows that reach to their k-th nearest neighbour.

    - `precision`: share of generated rows that lie in some ball of a real row;
    - `recall`: share of real rows that lie in some ball of a generated row;
    - `density`: in how many balls of real rows a generated row lies, over k; about 1 where both are alike, unbounded;
    - `coverage`: share of real rows whose ball has a generated row in it.

    Distances tie where rows are discrete or repeated. A row at the edge of a ball is in it for precision and recall, as
    in their source (<=), and not for density and coverage, as in their authors' code, `prdc` (<). So density is below 1
    even for equal laws where many distances tie, and 0, with coverage, where balls are points.

    They depend on k and on the numbers of rows, so only those of the same can be compared. Errors: jackknife over 10
    groups of rows, which tends to be up to twice too large, as none of these is smooth.

    Source: Kynkaanniemi et al., 2019, arXiv 1904.06991, equations 1 and 2; Naeem et al., 2020, arXiv 2002.09797,
    equations 3 and 4.

    Args:
        real: features (n, d), n >= 2 (k + 10).
        generated: The same of generated rows.
        k: Neighbours.
        about: Of the estimates, where another library would write a unit.
    """
    if k < 1:
        raise SpecError(f"k is {k}: at least one neighbour is needed", field="k", value=k)
    _check(real, generated, 2 * (k + GROUPS))
    real, generated = real.double(), generated.double()
    names, n = ("precision", "recall", "density", "coverage"), min(len(real), len(generated))
    found = _prdc(real, generated, k)
    stderr, _ = _jackknife(found[0], found[1:])
    return {
        name: Estimate(float(v), float(e), n, f"{about}, k = {k}")
        for name, v, e in zip(names, found[0], stderr, strict=True)
    }


def _check(real: Tensor, generated: Tensor, least: int) -> None:
    for name, rows in (("real", real), ("generated", generated)):
        if rows.dim() != 2 or rows.shape[1:] != real.shape[1:] or len(rows) < least:
            raise DataError(
                f"the {name} features have shape {tuple(rows.shape)}: (n, d) is needed, with the same d for real and "
                f"generated rows and n of {least} at least",
                field=name,
            )
        if not bool(rows.isfinite().all()):
            raise DataError(
                f"the {name} features hold numbers that are not finite: look at what extracts them", field=name
            )


def _jackknife(value: Tensor, left_out: Tensor) -> tuple[Tensor, Tensor]:
    """Standard error and bias of a statistic, from its values (groups, ...) with each group left out."""
    spread, bias = (left_out - left_out.mean(0)).square().sum(0), left_out.mean(0) - value
    return (spread * (GROUPS - 1) / GROUPS).sqrt(), bias * (GROUPS - 1)


def _groups(x: Tensor, dim: int = 0) -> list[Tensor]:
    """Every tenth row is of a group, so that rows that are sorted, by class perhaps, make groups that are alike."""
    return [x[g::GROUPS] if dim == 0 else x[:, g::GROUPS] for g in range(GROUPS)]


def _kept(n: int) -> Tensor:
    """(1 + groups, n): which rows are left in: first all, then all but a group."""
    group = torch.arange(n) % GROUPS
    return torch.cat([torch.ones(1, n, dtype=torch.bool), torch.arange(GROUPS)[:, None] != group])


def _frechet(real: Tensor, generated: Tensor) -> Tensor:
    (m1, s1), (m2, s2) = ((x.mean(0), torch.cov(x.T).reshape(x.shape[1], -1)) for x in (real, generated))
    values, vectors = torch.linalg.eigh(s1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    between = torch.linalg.eigvalsh(root @ s2 @ root).clamp_min(0).sqrt().sum()  # tr (S1 S2)^(1/2)
    return (m1 - m2).square().sum() + s1.trace() + s2.trace() - 2 * between


def _kernel_sums(x: Tensor, y: Tensor) -> Tensor:
    """(groups, groups): the kernel, summed over the pairs of a group of x and one of y; not of a row with itself."""
    of_y = torch.arange(len(y)) % GROUPS
    nothing = torch.zeros(GROUPS, dtype=x.dtype)
    each = [((group @ y.T / x.shape[1] + 1) ** 3).sum(0) for group in _groups(x)]
    found = torch.stack([nothing.index_add(0, of_y, part) for part in each])
    if x is y:
        found -= nothing.index_add(0, of_y, (x.square().sum(1) / x.shape[1] + 1) ** 3).diag()
    return found


def _prdc(real: Tensor, generated: Tensor, k: int) -> Tensor:
    """(1 + groups, 4): of all rows, and with each group of real and generated rows left out."""
    kept_real, kept_generated = _kept(len(real)), _kept(len(generated))
    of_real, of_generated = _radii(real, k, kept_real), _radii(generated, k, kept_generated)
    inside = torch.zeros(len(kept_real), len(generated))  # in how many balls of real rows
    precise = torch.zeros(kept_generated.shape, dtype=torch.bool)
    reached, covered = torch.zeros(2, *kept_real.shape, dtype=torch.bool)
    for start in range(0, len(real), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        distance = _distances(real[rows], generated)
        for v, kept in enumerate(kept_generated):
            balls = distance < of_real[v, rows, None]
            inside[v] += balls.sum(0)
            covered[v, rows] = (balls & kept).any(1)
            precise[v] |= (distance <= of_real[v, rows, None]).any(0)
            reached[v, rows] = (distance <= of_generated[v]).any(1)
    found = []
    for v, (real_rows, generated_rows) in enumerate(zip(kept_real, kept_generated, strict=True)):
        found += [
            torch.stack(
                [
                    precise[v, generated_rows].double().mean(),
                    reached[v, real_rows].double().mean(),
                    inside[v, generated_rows].double().mean() / k,
                    covered[v, real_rows].double().mean(),
                ]
            )
        ]
    return torch.stack(found)


def _distances(x: Tensor, y: Tensor) -> Tensor:
    """(n, m), row by row: by matrix products, distances that are equal would differ by rounding."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _radii(x: Tensor, k: int, kept: Tensor) -> Tensor:
    """(1 + groups, n): from each row to its k-th nearest other one among those kept; -1 for rows that are not."""
    radii = torch.full(kept.shape, -1.0, dtype=x.dtype)
    for start in range(0, len(x), ROWS_AT_ONCE):
        rows = torch.arange(start, min(start + ROWS_AT_ONCE, len(x)))
        distance = _distances(x[rows], x)
        distance[torch.arange(len(rows)), rows] = math.inf
        # the nearest of each group: among those of the other groups are the nearest of all but that group
        groups = _groups(distance, 1)
        nearest = [part.topk(min(k, part.shape[1]), 1, largest=False).values for part in groups]
        for v in range(len(kept)):
            others = torch.cat([part for g, part in enumerate(nearest) if g != v - 1], 1)
            radii[v, rows] = torch.where(kept[v, rows], others.kthvalue(k, 1).values, -1.0)
    return radii
