"""The ELBO minus penalties: on the distribution of codes, on the decoder, or by a discriminator."""

from typing import Annotated, Literal

from torch import nn

from vaekit.errors import SpecError
from vaekit.models.building import BuildContext
from vaekit.models.compatibility import gradient_row, penalty_row, refuse
from vaekit.models.vae import Draw
from vaekit.objectives.critics import Adversary, Critic, Factor, FeatureGan
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.gradients import Gradient
from vaekit.objectives.penalties import DecoderSlope, DecoderWeights, Dip, Mmd, TotalCorrelation
from vaekit.objectives.terms import StepContext, Terms
from vaekit.registry import choice
from vaekit.spec import Several, spec

Regulariser = Annotated[
    TotalCorrelation | Dip | Mmd | DecoderWeights | DecoderSlope | Factor | Adversary | FeatureGan,
    choice("penalties"),
]


@spec
class Regularised:
    """The value of an `Elbo` for each row, less penalties. Not a bound on ln p(x); the bound is among the parts.

    A penalty on the whole batch counts the same for each of its rows. Parts hold each penalty by its kind.

    Args:
        elbo: What they are taken off, with its weight of the KL; samples and gradient are its own.
        penalties: Any number; one of them may have a discriminator.

    Example:
        >>> x = torch.zeros(5, 8)
        >>> posterior, likelihood = Conditional(nn.Linear(8, 4), Gaussian()), Conditional(nn.Linear(2, 8), Bernoulli())
        >>> draw = VAE(posterior, StandardNormal().build(2), likelihood).draw(x)
        >>> sorted(Regularised(penalties=(Dip(),))(draw).parts)
        ['dip', 'distortion', 'elbo', 'rate']
    """

    elbo: Elbo = Elbo()
    penalties: Several[Regulariser] = ()
    kind: Literal["regularised"] = "regularised"

    penalises = True

    def __post_init__(self) -> None:
        kinds = [penalty.kind for penalty in self.penalties]
        if len(set(kinds)) < len(kinds):
            raise SpecError(
                f"the penalties are {', '.join(kinds)}: each may stand there once", field="penalties", value=kinds
            )
        if len(self._critics()) > 1:
            raise SpecError(
                f"the penalties are {', '.join(kinds)}: at most one may have a discriminator",
                field="penalties",
                value=kinds,
            )
        for penalty in self.penalties:
            refuse("penalties", kinds, penalty=penalty_row(penalty), gradient=gradient_row(self.gradient))

    @property
    def samples(self) -> int:
        return self.elbo.samples

    @property
    def gradient(self) -> Gradient:
        return self.elbo.gradient

    @property
    def kl(self) -> str:
        """How the KL of the bound is had; see `Elbo`."""
        return self.elbo.kl

    @property
    def needs_noise(self) -> bool:
        """Whether a penalty draws numbers of its own."""
        return any(penalty.needs_noise for penalty in self.penalties)

    @property
    def critic(self) -> Critic | None:
        """The settings of the discriminator, where there is one."""
        return next(iter(self._critics()), None)

    def _critics(self) -> list[Critic]:
        found = (getattr(penalty, "critic", None) for penalty in self.penalties)
        return [critic for critic in found if critic is not None]

    def build(self, context: BuildContext) -> nn.Module | None:
        """The discriminator, for z of `event_shape` and x of `data_shape`; None without one."""
        built = (penalty.build(context) for penalty in self.penalties)
        return next((network for network in built if network is not None), None)

    def __call__(self, draw: Draw, ctx: StepContext | None = None) -> Terms:
        terms = self.elbo(draw, ctx)
        value, parts, discriminator = terms.value, dict(terms.parts), terms.discriminator
        for penalty in self.penalties:
            cost = penalty(draw, ctx or StepContext())
            value = value - cost.value
            parts[penalty.kind] = cost.value.detach()
            discriminator = cost.discriminator if discriminator is None else discriminator
        return Terms(value, parts, discriminator)
