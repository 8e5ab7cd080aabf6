"""What a part needs to know of the other parts of a model to be built."""

from dataclasses import dataclass

from torch import nn

from vaekit.models.conditional import Conditional
from vaekit.models.distributions.codes import CodeSpace
from vaekit.models.families import FieldEvent
from vaekit.models.parameters import Shape
from vaekit.models.protocols import DiscreteHead, Reshaping


@dataclass(frozen=True)
class BuildContext:
    """The model that a part is built for.

    Attributes:
        data_shape: Shape of one row of x.
        context_size: Numbers of context that go with each row; 0 for none.
        posterior: q(z|x), for priors that are made of it or share its code space.
        transform: What is applied to x before the encoder's network; none for nothing.
        fields: The columns of a table of different kinds; none of other data.
    """

    data_shape: Shape = ()
    context_size: int = 0
    posterior: Conditional | None = None
    transform: nn.Module | None = None
    fields: tuple[FieldEvent, ...] = ()

    @property
    def seen_shape(self) -> Shape:
        """Shape of what the encoder's network sees of one row: of x, but for a transform that says another."""
        return self.transform.seen_shape if isinstance(self.transform, Reshaping) else self.data_shape

    @property
    def code_space(self) -> CodeSpace | None:
        """What the posterior's z is made of, if it is discrete."""
        return code_space_of(self.posterior)


ALONE = BuildContext()  # of a part that is built by itself


def code_space_of(posterior: nn.Module | None) -> CodeSpace | None:
    """What the z of q(z|x) is made of, if it is discrete."""
    if not isinstance(posterior, Conditional) or not isinstance(posterior.head, DiscreteHead):
        return None
    return posterior.head.code_space(posterior.event_shape or ())


def check_size(size: int) -> None:
    """Refuse a prior over nothing.

    Raises:
        ValueError: There are no numbers of z.
    """
    if size < 1:
        raise ValueError(f"size is {size}: a prior is over at least one number")
