"""One objective first, another for the rest of training."""

from typing import Annotated, Literal

from pydantic import Field

from vaekit.models.vae import Draw
from vaekit.objectives.elbo import Elbo
from vaekit.objectives.gradients import Gradient
from vaekit.objectives.iwae import Iwae
from vaekit.objectives.terms import StepContext, Terms
from vaekit.spec import by_kind, spec

Bound = Annotated[Elbo | Iwae, Field(discriminator="kind"), by_kind]


@spec
class Switch:
    """One objective first, another for the rest: mostly the ELBO, and then an importance-weighted bound.

    A few samples of z for each row near the end bring most of what they would bring throughout, for a part of the time
    (Burda et al., 2015, arXiv 1509.00519, section 5.3, train a VAE on as an IWAE). The change is made between epochs.

    Args:
        first: Until then.
        then: From then on.
        at: Share of all steps that are the first's.
    """

    first: Bound = Elbo()
    then: Bound = Iwae()
    at: Annotated[float, Field(gt=0, lt=1)] = 0.7
    kind: Literal["switch"] = "switch"

    @property
    def phases(self) -> tuple[Elbo | Iwae, ...]:
        """What is maximised, one after the other."""
        return self.first, self.then

    @property
    def samples(self) -> int:
        """The most z drawn for each row."""
        return max(phase.samples for phase in self.phases)

    @property
    def gradient(self) -> Gradient:
        """The estimator that training ends with."""
        return self.then.gradient

    def __call__(self, draw: Draw, ctx: StepContext | None = None) -> Terms:
        ctx = ctx or StepContext()
        return self.now(int(ctx.step), int(ctx.steps))(draw, ctx)

    def now(self, step: int, steps: int) -> Elbo | Iwae:
        """The objective of an epoch that begins at a step of so many."""
        return self.first if step < self.at * steps else self.then
