"""What a part needs to know of the data and of the rest of the model to be built."""

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import nn

from vaekit.errors import SpecError
from vaekit.models.distributions.codes import CodeSpace
from vaekit.models.parameters import Shape
from vaekit.models.protocols import Encoder, Reshaping
from vaekit.models.size_factor import SizeFactor

ContextPart = Literal["encoder", "prior", "decoder"]
CONTEXT_PARTS: tuple[ContextPart, ...] = get_args(ContextPart)


@dataclass(frozen=True)
class FieldEvent:
    """A column of a table, as the parts of a model need to know it.

    Attributes:
        name: Of the column.
        kind: Real, positive, count, binary, categorical or ordinal.
        categories: How many, of a categorical or ordinal column; its values are 0, 1, ... below that.
    """

    name: str
    kind: Literal["real", "positive", "count", "binary", "categorical", "ordinal"]
    categories: int = 0


@dataclass(frozen=True)
class BuildContext:
    """The model that a part is built for. What more a part may have to know of the data is one more field.

    Attributes:
        data_shape: Shape of one row of x.
        context_size: Numbers of context that go with each row; 0 for none.
        posterior: q(z|x), for priors that are made of it or share its code space.
        transform: What is applied to x before the encoder's network; none for nothing.
        fields: The columns of a table of different kinds; none of other data.
        event_shape: Shape of what the part is over: x for a likelihood, z for a posterior, a sampler or a penalty.
        size_factor: Where the context holds the sizes of rows of counts; None where nothing says them.
        context_to: The parts of the model that the context is given to; the others are called with it all the same.
    """

    data_shape: Shape = ()
    context_size: int = 0
    posterior: Encoder | None = None
    transform: nn.Module | None = None
    fields: tuple[FieldEvent, ...] = ()
    event_shape: Shape = ()
    size_factor: SizeFactor | None = None
    context_to: tuple[ContextPart, ...] = CONTEXT_PARTS

    def over(self, event_shape: Shape) -> "BuildContext":
        """The same for a part over events of this shape."""
        return replace(self, event_shape=tuple(event_shape))

    def context_of(self, part: ContextPart) -> int:
        """Numbers of context that a part of the model is conditioned on; 0 for none."""
        return self.context_size if part in self.context_to else 0

    @property
    def seen_shape(self) -> Shape:
        """Shape of what the encoder's network sees of one row: of x, but for a transform that says another."""
        return self.transform.seen_shape if isinstance(self.transform, Reshaping) else self.data_shape

    @property
    def code_space(self) -> CodeSpace | None:
        """What the posterior's z is made of, if it is discrete."""
        return code_space_of(self.posterior)


ALONE = BuildContext()  # of a part that is built by itself


def code_space_of(posterior: Any) -> CodeSpace | None:
    """What the z of q(z|x) is made of, if it is discrete."""
    return posterior.code_space if isinstance(posterior, Encoder) else None


def check_size(size: int) -> None:
    """Refuse a prior over nothing.

    Raises:
        SpecError: There are no numbers of z.
    """
    if size < 1:
        raise SpecError(f"size is {size}: a prior is over at least one number", field="size", value=size)
