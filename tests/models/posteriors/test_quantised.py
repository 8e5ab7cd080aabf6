"""Quantisation: codebooks that follow the vectors they stand for, and rounding of each dimension."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vaekit.models import FsqPosterior, StandardNormal, VqPosterior
from vaekit.models.building import BuildContext
from vaekit.models.distributions.codes import Quantised
from vaekit.models.drawing import draw_latent
from vaekit.models.posteriors.quantised import Codebooks, SumOfLevels
from vaekit.randomness import new_generator

pytestmark = pytest.mark.usefixtures("one_thread")


class TestVq:
    def head(self, **settings: Any) -> Codebooks:
        torch.manual_seed(0)
        context = BuildContext(event_shape=(4 * settings.get("depth", 1),))
        return VqPosterior(**{"classes": 5, "dim": 2, **settings}).build(context).double()

    def vectors(self, n: int = 30) -> Tensor:
        return torch.randn(n, 4, dtype=torch.float64, generator=new_generator(1))

    def test_it_takes_the_nearest_code_and_pays_for_the_distance(self) -> None:
        head = self.head(commitment=0.3)
        raw = self.vectors()
        q = head(raw)
        assert isinstance(q, Quantised)
        distances = torch.cdist(raw.reshape(-1, 2), head.vectors[0])
        nearest = head.vectors[0][distances.argmin(-1)].reshape(30, 4)
        assert q.mean.equal(nearest)
        torch.testing.assert_close(q.penalties["commitment"], 0.3 * (raw - nearest).square().sum(-1))
        latent = draw_latent(q, StandardNormal().build(4).double()(), (3,))
        assert latent.aux["commitment"].equal(q.penalties["commitment"])
        assert latent.z.equal(nearest.expand(3, -1, -1))
        assert not latent.log_q.any()

    @pytest.mark.parametrize("depth", [1, 3])
    def test_gradients_go_straight_through(self, depth: int) -> None:
        head, raw = self.head(depth=depth), self.vectors().requires_grad_()
        z = SumOfLevels(depth, 2)(head(raw).mean)
        weights = torch.randn(30, 4, dtype=torch.float64)
        (slope,) = torch.autograd.grad((weights * z).sum(), raw)
        torch.testing.assert_close(slope, weights)

    def test_more_levels_are_nearer(self) -> None:
        raw, error = self.vectors(500), []
        for depth in (1, 2, 4):
            head = self.head(depth=depth, classes=16)
            head.initialise_from_encodings(raw, new_generator(2))
            error += [(SumOfLevels(depth, 2)(head(raw).mean) - raw).square().mean().item()]
        assert error[2] < 0.3 * error[1] < 0.3 * 0.5 * error[0]

    def test_code_vectors_are_running_means_of_what_chose_them(self) -> None:
        head, raw = self.head(decay=0.9, revive_below=0.0), self.vectors()
        before, vectors = head.vectors.clone(), raw.reshape(-1, 2)
        chosen = torch.cdist(vectors, before[0]).argmin(-1)
        head(raw)
        assert head.vectors.equal(before), "not before the batch is over"
        head.settle()
        for code in range(5):
            mine = vectors[chosen == code]
            share = 0.9 / 5 + 0.1 * len(mine) / 60
            total = 0.9 * before[0, code] / 5 + 0.1 * mine.sum(0) / 60
            torch.testing.assert_close(head.share[0, code].item(), share)
            torch.testing.assert_close(head.vectors[0, code], total / share)
        settled = head.vectors.clone()
        head.settle()
        assert head.vectors.equal(settled), "nothing was noted since"

    def test_a_batch_in_pieces_counts_as_the_whole(self) -> None:
        one, other, raw = self.head(depth=2), self.head(depth=2), self.vectors()
        one(raw)
        for piece in raw.split(7):
            other(piece)
        one.settle()
        other.settle()
        for ours, theirs in zip(one.buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(ours, theirs)

    def test_it_learns_in_training_alone_and_forgets_when_told(self) -> None:
        head, before = self.head(), self.head().vectors
        with torch.no_grad():
            head(self.vectors())
        head.eval()(self.vectors())
        head.train()(self.vectors())
        head.forget()
        head.settle()
        assert head.vectors.equal(before)

    def test_a_code_that_nobody_chooses_moves_to_the_vector_furthest_from_its_code(self) -> None:
        head, raw = self.head(decay=0.5, revive_below=0.5), self.vectors()
        head.vectors[0, 3:] = 1000.0
        head.total[0, 3:] = 200.0
        for _ in range(3):
            last = head.vectors[0].clone()
            head(raw)
            head.settle()
            if (head.vectors[0, 3:].abs() < 100).all():
                break
        distance, far = torch.cdist(raw.reshape(-1, 2), last).amin(-1).sort(descending=True)
        assert distance[0] > distance[1]
        assert head.vectors[0, 3:].equal(raw.reshape(-1, 2)[far[:2]])
        torch.testing.assert_close(head.share[0, 3:], torch.full((2,), 0.2, dtype=torch.float64))

    def test_codebooks_start_at_the_encoders_vectors(self) -> None:
        head, raw = self.head(depth=2), self.vectors()
        head.initialise_from_encodings(raw, new_generator(3))
        vectors = raw.reshape(-1, 2)
        assert all((vectors == code).all(-1).any() for code in head.vectors[0])
        assert len(head.vectors[0].unique(dim=0)) == 5
        few = self.head()
        few.initialise_from_encodings(raw[:1], new_generator(3))
        assert few.vectors.isfinite().all()

    def test_codes_found_by_clustering_lower_the_error(self) -> None:
        centres = torch.tensor([[0.0, 0], [6, 0], [0, 6], [6, 6], [12, 3]], dtype=torch.float64)
        which = torch.randint(5, (400,), generator=new_generator(1))
        raw = (centres[which] + 0.1 * torch.randn(400, 2, dtype=torch.float64)).reshape(200, 4)
        head = self.head(decay=0.8, revive_below=0.2)
        head.vectors.fill_(3.0).add_(torch.arange(10).reshape(1, 5, 2) * 1e-3)
        head.total.copy_(head.vectors / 5)
        for _ in range(60):
            q = head(raw)
            head.settle()
        assert (q.mean - raw).square().mean() < 0.02
        torch.testing.assert_close(head.vectors[0].sort(0).values, centres.sort(0).values, rtol=0, atol=0.1)


class TestFsq:
    def test_it_rounds_to_the_nearest_value_of_each_dimension(self) -> None:
        raw = torch.randn(50, 6, dtype=torch.float64, generator=new_generator(1), requires_grad=True)
        q = FsqPosterior(levels=(3, 4, 2))(raw, (6,))
        for column, levels in enumerate((3, 4, 2) * 2):
            grid = torch.linspace(-1, 1, levels, dtype=torch.float64)
            nearest = grid[(raw[:, column].tanh()[:, None] - grid).abs().argmin(-1)]
            torch.testing.assert_close(q.mean[:, column], nearest)
        (slope,) = torch.autograd.grad(q.mean.sum(), raw)
        torch.testing.assert_close(slope, 1 - raw.tanh() ** 2)
