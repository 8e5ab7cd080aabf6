"""Posteriors that put all mass on one code: vector quantisation (VQ) and finite scalar quantisation (FSQ).

q(z|x) is deterministic, ln q = 0, and p(z) is a probability mass over codes, so the ELBO is ln p(x|z) + ln p(z), a true
bound; with the uniform prior the rate is positions * ln(classes). Gradients go straight through the rounding.
"""

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vaekit.errors import SpecError
from vaekit.models.building import BuildContext
from vaekit.models.distributions.codes import CodeSpace, Quantised, one_hot
from vaekit.models.families import Head, PosteriorFamily
from vaekit.models.parameters import Shape
from vaekit.models.settling import Reduce, unchanged
from vaekit.spec import Several, spec

RELOCATED = 32  # codes at most, after one batch
MOST_CODES = 65536  # of a position


class QuantisedPosterior(PosteriorFamily):
    """A family whose z is a discrete function of x. Abstract."""

    support_of_z = "discrete"
    has_score = False
    smooth_density = False


@spec
class VqPosterior(QuantisedPosterior):
    """Vector quantisation (VQ-VAE): each position is the nearest of `classes` code vectors of `dim` numbers.

    The code vectors are running means of the encoder's vectors that chose them (EMA), kept in buffers: they have no
    gradient. The encoder pays commitment * |r - code|^2 for each vector r, in nats, which the objective subtracts
    beside the ELBO. A code that is hardly chosen moves to the vector of the batch that lies furthest from its code, as
    empty clusters do in k-means.

    With depth > 1 (residual quantisation) each vector is the sum of one code from each of `depth` codebooks, every
    one quantising what those before it left over.

    Args:
        classes: Code vectors, K; one code is ln K nats.
        dim: Numbers in a code vector.
        depth: Codebooks; each position has one code of each.
        commitment: Weight of the encoder's distance to its code.
        decay: Of the running means, for each batch.
        revive_below: A code chosen less often than this fraction of an even share is moved; 0 never moves any.

    Sources: van den Oord, Vinyals and Kavukcuoglu, 2017, arXiv 1711.00937, equation 3 and appendix A.1 (EMA); Dhariwal
    et al., 2020, arXiv 2005.00341 (restarts); Lee et al., 2022, arXiv 2203.01941 (residual).

    Example:
        >>> head = VqPosterior(classes=8, dim=2).build(BuildContext(event_shape=(6,)))
        >>> head(torch.randn(5, 6)).event_shape
        torch.Size([6])
    """

    classes: Annotated[int, Field(ge=2, le=65536)] = 128
    dim: Annotated[int, Field(ge=1, le=4096)] = 8
    depth: Annotated[int, Field(ge=1, le=64)] = 1
    commitment: Annotated[float, Field(ge=0)] = 0.25
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    revive_below: Annotated[float, Field(ge=0, lt=1)] = 0.05
    kind: Literal["vq"] = "vq"

    def z_shape(self, latent: int) -> Shape:
        return (latent * self.depth * self.dim,)

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape) // self.depth

    def build(self, context: BuildContext) -> "Codebooks":
        return Codebooks(self, math.prod(context.event_shape) // (self.depth * self.dim))

    def as_seen(self, latent: int) -> tuple[Shape, nn.Module | None]:
        return (latent * self.dim,), SumOfLevels(self.depth, self.dim) if self.depth > 1 else None


class CodeVectors:
    """What z of `Codebooks` is made of: its code vectors as they are at the time.

    z is (..., latent, depth, dim), flat: the codes of a position one after the other, coarse to fine.

    Args:
        settings: Of the codebooks.
        latent: Positions.
        vectors: Called for the code vectors, (depth, classes, dim).
    """

    def __init__(self, settings: VqPosterior, latent: int, vectors: Callable[[], Tensor]):
        self.settings, self.latent, self._vectors = settings, latent, vectors
        self.positions, self.classes = latent * settings.depth, settings.classes

    def z_of(self, codes: Tensor) -> Tensor:
        vectors, by_level = self._vectors(), codes.unflatten(-1, (self.latent, self.settings.depth))
        levels = [nn.functional.embedding(by_level[..., i], vectors[i]) for i in range(self.settings.depth)]
        return torch.stack(levels, -2).flatten(-3)

    def codes_of(self, z: Tensor) -> Tensor:
        """The codes (..., latent * depth) that z stands for."""
        levels = z.detach().unflatten(-1, (self.latent, self.settings.depth, self.settings.dim)).unbind(-2)
        vectors = self._vectors()
        return torch.stack([nearest(part, vectors[i]) for i, part in enumerate(levels)], -1).flatten(-2)

    def one_hot(self, z: Tensor) -> Tensor:
        return one_hot(self.codes_of(z), self.classes, z.dtype)

    def moment(self, probs: Tensor, power: int = 1) -> Tensor:
        by_level = probs.unflatten(-2, (self.latent, self.settings.depth))
        return torch.einsum("...lc,lcd->...ld", by_level, self._vectors() ** power).flatten(-3)


class Codebooks(nn.Module, Head):
    """The head of `VqPosterior`, with its code vectors.

    Args:
        settings: Of the codebooks.
        latent: Positions.

    Attributes:
        vectors: The code vectors, (depth, classes, dim).
        share: Running share of the vectors that chose each code, (depth, classes).
        total: Likewise their sum, over the number of vectors, (depth, classes, dim).
        seen: Of the batches since the last `settle`: number and sum of the vectors that chose each code.
        furthest: Of the same: vectors far from their codes, and their squared distances.
    """

    vectors: Tensor
    share: Tensor
    total: Tensor
    seen: Tensor
    furthest: Tensor

    def __init__(self, settings: VqPosterior, latent: int):
        super().__init__()
        self.settings, self.latent, self.classes = settings, latent, settings.classes
        books = (settings.depth, settings.classes)
        self.register_buffer("vectors", torch.randn(*books, settings.dim))
        self.register_buffer("share", torch.full(books, 1 / settings.classes))
        self.register_buffer("total", self.vectors / settings.classes)
        kept = (settings.depth, min(RELOCATED, settings.classes), settings.dim + 1)
        self.register_buffer("seen", torch.zeros(*books, settings.dim + 1), persistent=False)
        self.register_buffer("furthest", torch.full(kept, -1.0), persistent=False)
        self.space = CodeVectors(settings, latent, self.current_vectors)

    def features(self, event_shape: Shape) -> int:
        return math.prod(event_shape) // self.settings.depth

    def code_space(self, event_shape: Shape) -> CodeSpace:
        return self.space

    def current_vectors(self) -> Tensor:
        """The code vectors, (depth, classes, dim)."""
        return self.vectors

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Quantised:
        given = raw.unflatten(-1, (self.latent, self.settings.dim))  # (batch, latent, dim)
        notes = self.training and torch.is_grad_enabled()
        left, levels, penalty = given, [], torch.zeros_like(given[..., 0, 0])
        for level in range(self.settings.depth):
            codes = nearest(left, self.vectors[level])
            found = nn.functional.embedding(codes, self.vectors[level])
            squares = (left - found).square().sum(-1)
            penalty = penalty + self.settings.commitment * squares.sum(-1)
            if notes:
                self._note(left.detach(), codes, squares.detach(), level)
            left = left - found
            levels += [found]
        # The first code has the slope of what it stands for. So what it leaves over has none, nor have its codes.
        levels[0] = levels[0] + (given - given.detach())
        z = torch.stack(levels, -2).flatten(-3)
        return Quantised(z, self.space, {"commitment": penalty})

    @torch.no_grad()
    def initialise_from_encodings(self, raw: Tensor, generator: torch.Generator) -> None:
        """Set the code vectors to some of the encoder's.

        Args:
            raw: The encoder's raw numbers for training rows, (n, features).
            generator: Chooses among them.
        """
        left = raw.reshape(-1, self.settings.dim)
        for level in range(self.settings.depth):
            order = torch.randperm(len(left), generator=generator).to(left.device)
            rows = order[torch.arange(self.classes, device=left.device) % len(left)]
            self._set(level, left[rows])
            left = left - nn.functional.embedding(nearest(left, self.vectors[level]), self.vectors[level])

    @torch.no_grad()
    def settle(self, total: Reduce = unchanged, gather: Reduce = unchanged) -> None:
        """Update the code vectors with what was noted since the last call, and move codes that are hardly chosen.

        Args:
            total: The sum of a tensor over all processes that divide the batch.
            gather: The rows of a tensor (n, ...) of all processes.
        """
        seen = total(self.seen.clone())
        number = seen[0, :, 0].sum()
        fresh = (1 - self.settings.decay) * (number > 0)
        self.share.lerp_(seen[..., 0] / number.clamp_min(1), fresh)
        self.total.lerp_(seen[..., 1:] / number.clamp_min(1), fresh)
        tiny = torch.finfo(self.share.dtype).tiny
        enough = (self.share > 1e6 * tiny) & (number > 0)
        means = self.total / self.share.clamp_min(1e6 * tiny).unsqueeze(-1)
        self.vectors.copy_(torch.where(enough.unsqueeze(-1), means, self.vectors))
        if self.settings.revive_below:
            self._revive(gather)
        self.forget()

    def forget(self) -> None:
        """Drop what was noted since the last call of `settle`."""
        self.seen.zero_()
        self.furthest.fill_(-1)

    @torch.no_grad()
    def _note(self, vectors: Tensor, codes: Tensor, squares: Tensor, level: int) -> None:
        vectors, squares = vectors.flatten(0, -2), squares.flatten()
        chosen = one_hot(codes.flatten(), self.classes, vectors.dtype)
        self.seen[level] += chosen.t() @ torch.cat([torch.ones_like(squares)[:, None], vectors], -1)
        self.furthest[level].copy_(_furthest(torch.cat([squares[:, None], vectors], -1), self.furthest[level]))

    def _revive(self, gather: Reduce) -> None:
        for level in range(self.settings.depth):
            rows = gather(self.furthest[level].clone())
            found = _furthest(rows, rows[:0], len(self.furthest[level]))
            rare = self.share[level] < self.settings.revive_below / self.classes
            place = rare.cumsum(0) - 1  # the first of them takes the furthest vector, and so on
            row = place.clamp(0, len(found) - 1)
            moves = rare & (place < len(found)) & (found[row, 0] > 0)
            self._set(level, torch.where(moves[:, None], found[row, 1:], self.vectors[level]), moves)

    def _set(self, level: int, vectors: Tensor, which: Tensor | None = None) -> None:
        """New code vectors, each as if it had had an even share."""
        moved = torch.ones_like(self.share[level], dtype=torch.bool) if which is None else which
        even = 1 / self.classes
        self.vectors[level] = torch.where(moved[:, None], vectors, self.vectors[level])
        self.share[level] = torch.where(moved, even, self.share[level])
        self.total[level] = torch.where(moved[:, None], even * vectors, self.total[level])


def nearest(vectors: Tensor, book: Tensor) -> Tensor:
    """The number of the nearest of the code vectors in `book`, (classes, dim), for each of vectors (..., dim)."""
    return (book.square().sum(-1) - 2 * vectors.detach() @ book.t()).argmin(-1)


def _furthest(rows: Tensor, others: Tensor, count: int | None = None) -> Tensor:
    """Of rows and others (n, 1 + dim), those with the largest first numbers: as many as the others, or `count`."""
    every = torch.cat([others, rows])
    return every[every[:, 0].topk(len(others) if count is None else count).indices]


class SumOfLevels(nn.Module):
    """z of `Codebooks` as a decoder sees it: for each position the sum of its codes.

    Args:
        depth: Codes of a position.
        dim: Numbers in a code vector.
    """

    def __init__(self, depth: int, dim: int):
        super().__init__()
        self.depth, self.dim = depth, dim

    def forward(self, z: Tensor) -> Tensor:
        return z.unflatten(-1, (-1, self.depth, self.dim)).sum(-2).flatten(-2)


@spec
class FsqPosterior(QuantisedPosterior, Head):
    """Finite scalar quantisation (FSQ): each number of z is rounded to a few fixed values; there is no codebook.

    A number r of the encoder becomes the nearest of L evenly spaced values in [-1, 1] to tanh(r). The L of each of a
    position's dimensions multiply to its number of codes. The grid is symmetric for even L, too, where the paper shifts
    it by half a step.

    Args:
        levels: L of each dimension of a position.

    Source: Mentzer, Minnen, Agustsson and Tschannen, 2023, arXiv 2309.15505, section 3.

    Example:
        >>> FsqPosterior(levels=(3, 2))(torch.tensor([[0.1, 5.0, -9.0, -0.2]]), (4,)).mean
        tensor([[ 0.,  1., -1., -1.]])
    """

    levels: Annotated[Several[Annotated[int, Field(ge=2, le=1024)]], Field(min_length=1, max_length=64)] = (8, 5, 5)
    kind: Literal["fsq"] = "fsq"

    def __post_init__(self) -> None:
        if math.prod(self.levels) > MOST_CODES:
            raise SpecError(
                f"levels are {list(self.levels)}, which make {math.prod(self.levels)} codes of a position, and a prior "
                f"has a number for each: make it at most {MOST_CODES}, and use more positions",
                field="levels",
                value=self.levels,
            )

    def z_shape(self, latent: int) -> Shape:
        return (latent * len(self.levels),)

    def code_space(self, event_shape: Shape) -> "Grid":
        return Grid(math.prod(event_shape) // len(self.levels), self.levels)

    def __call__(self, raw: Tensor, event_shape: Shape | None = None) -> Quantised:
        space = self.code_space(raw.shape[-1:] if event_shape is None else event_shape)
        bounded = raw.tanh()
        return Quantised(space.nearest(bounded) + (bounded - bounded.detach()), space)


class Grid:
    """What z of `FsqPosterior` is made of: a position's code numbers its grid's points.

    The first dimension changes fastest.

    Args:
        positions: Their number.
        levels: Values of each dimension of a position.
    """

    def __init__(self, positions: int, levels: tuple[int, ...]):
        self.positions, self.levels = positions, levels
        self.classes = math.prod(levels)

    def nearest(self, bounded: Tensor) -> Tensor:
        """The grid's point nearest to numbers (..., size) in [-1, 1]."""
        return self._value(self._steps(bounded)).flatten(-2)

    def z_of(self, codes: Tensor) -> Tensor:
        levels, places = self._numbers(codes)
        return self._value(codes.unsqueeze(-1) // places % levels).flatten(-2)

    def codes_of(self, z: Tensor) -> Tensor:
        """The codes (..., positions) that z stands for."""
        _, places = self._numbers(z)
        return (self._steps(z.detach()).long() * places).sum(-1)

    def one_hot(self, z: Tensor) -> Tensor:
        return one_hot(self.codes_of(z), self.classes, z.dtype)

    def moment(self, probs: Tensor, power: int = 1) -> Tensor:
        points = Grid(1, self.levels).z_of(torch.arange(self.classes, device=probs.device).unsqueeze(-1))
        return (probs @ points.to(probs.dtype) ** power).flatten(-2)

    def _steps(self, bounded: Tensor) -> Tensor:
        levels, _ = self._numbers(bounded)
        each = bounded.unflatten(-1, (self.positions, len(self.levels)))
        return ((levels - 1) * (1 + each.detach()) / 2).round()

    def _value(self, steps: Tensor) -> Tensor:
        levels, _ = self._numbers(steps)
        return 2 * steps / (levels - 1) - 1

    def _numbers(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Levels of each dimension, and how many codes a step in it is."""
        levels = torch.tensor(self.levels, device=like.device)
        return levels, levels.cumprod(0) // levels
