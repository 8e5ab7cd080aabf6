"""Gradient estimators: how z is drawn, and how a signal for each sample becomes a surrogate to differentiate.

The signal of a sample is `reward - cost`, with cost the part that holds ln q(z|x). A surrogate has the signal's value,
and as its gradient an estimate of the gradient of the signal's mean over q(z|x). `reparametrised`, `score` and
`enumerate` are the arguments of `model.draw`; `gradient_check` measures whether an estimator is `unbiased`.
"""

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from vaekit.models.settling import Reduce, unchanged
from vaekit.registry import choice
from vaekit.spec import spec


class RunningMean(nn.Module):
    """Mean of all signals seen, with exponentially fading memory: the baseline of `Score` at one sample.

    The signals of a batch count once it is over (`settle`), however it was divided.
    """

    total: Tensor
    weight: Tensor
    seen: Tensor

    def __init__(self, decay: float = 0.99):
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("seen", torch.zeros(2), persistent=False)  # sum and number of this batch's signals
        self.used = False  # by the objective

    @torch.no_grad()
    def forward(self, signal: Tensor) -> Tensor:
        """The mean of the signals of earlier batches (0 at first); notes those of this one."""
        self.seen += torch.stack([signal.sum(), signal.new_tensor(signal.numel())]).to(self.seen)
        self.used = True
        return self.total / self.weight.clamp_min(1e-12)

    @torch.no_grad()
    def settle(self, total: Reduce = unchanged, gather: Reduce = unchanged) -> None:
        """Take in the signals noted since the last call.

        Args:
            total: The sum of a tensor over all processes that divide the batch.
            gather: Not used.
        """
        if not self.used:
            return
        seen = total(self.seen)
        fresh = (1 - self.decay) * (seen[1] > 0)
        self.total.lerp_(seen[0] / seen[1].clamp_min(1), fresh)
        self.weight.lerp_(torch.ones_like(self.weight), fresh)
        self.forget()

    def forget(self) -> None:
        """Drop the signals noted since the last call of `settle`."""
        self.seen.zero_()


class GradientEstimator:
    """A gradient estimator. Abstract; by default it is all in how z is drawn.

    Attributes:
        unbiased: Whether its mean is the ELBO's true gradient.
        reparametrised: Whether gradients reach the encoder through z.
        score: Whether gradients reach the encoder through ln q directly.
        enumerate: Whether all values of z are listed in place of samples.
        multiplies_score: Whether the surrogate is the signal times the score of ln q, less a baseline.
        weighs_paths: Whether the path of each sample has the weight that makes it unbiased for importance-weighted
            bounds.
    """

    unbiased = True
    reparametrised = True
    score = True
    enumerate = False
    multiplies_score = False
    weighs_paths = False

    def surrogate(self, reward: Tensor, cost: Tensor, log_q: Tensor, signal_mean: RunningMean) -> Tensor:
        """What to differentiate: its value is that of the signal, (samples, batch)."""
        return reward - cost

    @property
    def has_baseline(self) -> bool:
        """Whether the score is multiplied by the signal less a baseline."""
        return False


@spec
class Pathwise(GradientEstimator):
    """The reparametrisation trick: gradients flow through z = mu + sigma eps. Unbiased; the one to use.

    Source: Kingma and Welling, 2014, arXiv 1312.6114, section 2.4.
    """

    kind: Literal["pathwise"] = "pathwise"


@spec
class Score(GradientEstimator):
    """The score function estimator (REINFORCE): signal times the gradient of ln q(z|x). Unbiased, and noisy.

    It needs no gradient through z, so it serves latents that cannot be reparametrised. The baseline of each sample is
    the mean signal of the other samples of its row (K > 1), or a running mean of past signals (K = 1), which the
    step's context remembers; neither depends on the sample, so neither biases.

    Sources: Williams, 1992; Mnih and Gregor, 2014, arXiv 1402.0030; Kool et al., 2019 (leave one out).

    Args:
        baseline: Subtract the baseline; without it the variance is larger by orders of magnitude.
    """

    baseline: bool = True
    kind: Literal["score"] = "score"

    reparametrised = False
    multiplies_score = True

    @property
    def has_baseline(self) -> bool:
        return self.baseline

    def surrogate(self, reward: Tensor, cost: Tensor, log_q: Tensor, signal_mean: RunningMean) -> Tensor:
        signal = (reward - cost).detach()
        centred = signal - self._baseline(signal, signal_mean) if self.baseline else signal
        # cost enters detached: its own gradient is a multiple of the score, of mean zero
        return reward - cost.detach() + centred * (log_q - log_q.detach())

    def _baseline(self, signal: Tensor, signal_mean: RunningMean) -> Tensor:
        samples = len(signal)
        if samples == 1:
            return signal_mean(signal)
        return (signal.sum(0) - signal) / (samples - 1)


@spec
class Enumerate(GradientEstimator):
    """No estimate: the sum over every value of a discrete z, weighted by q(z|x). Exact, for small z.

    Each row is decoded once for each value, so it serves latents of at most a few thousand values, and as the truth
    that estimators are measured by.
    """

    kind: Literal["enumerate"] = "enumerate"

    reparametrised = False  # the samples' weights in the mean carry the gradient
    enumerate = True


@spec
class StickTheLanding(GradientEstimator):
    """Pathwise without the score of ln q: its gradient goes through z alone. Unbiased for the ELBO.

    Where q(z|x) is the true posterior, its variance is zero. Where a Gaussian q is narrower than `drawing.NARROW`,
    mostly narrower than the true posterior, too, it would be 1 / sigma^2: there the ELBO puts the score back in part
    (`drawing.steadied`). It acts on the sampled KL.

    Source: Roeder, Wu and Duvenaud, 2017, arXiv 1703.09194.
    """

    kind: Literal["stick_the_landing"] = "stick_the_landing"

    score = False


@spec
class DoublyReparametrised(GradientEstimator):
    """Stick-the-landing made unbiased for importance-weighted bounds (DReG): each path is weighted by its share twice.

    For the ELBO, where every sample has the same share, it is `StickTheLanding`. Its variance falls with K where that
    of `Pathwise` does not fall fast enough for the shrinking gradient. A hierarchical VAE is gone through twice for
    each draw.

    Sources: Tucker, Lawson, Gu and Maddison, 2019, arXiv 1810.04152, equation 6; for hierarchical VAEs Bauer and Mnih,
    2021, arXiv 2101.11046.
    """

    kind: Literal["doubly_reparametrised"] = "doubly_reparametrised"

    score = False
    weighs_paths = True


@spec
class Detached(GradientEstimator):
    """What sampling z without the reparametrisation trick really does. Biased: it does not train the encoder.

    The encoder sees only minus the score of ln q(z|x), whose mean is zero and whose variance is 1/sigma^2 for a mean
    and 2 for a log-scale, so its bias is the whole true gradient. With a closed KL it sees the KL alone, and
    collapses to the prior. It is here for the ablation; `Score` is the estimator that works without the trick.
    """

    kind: Literal["detached"] = "detached"

    unbiased = False
    reparametrised = False


Gradient = Annotated[
    Pathwise | Score | Enumerate | StickTheLanding | DoublyReparametrised | Detached,
    choice("gradients"),
]
