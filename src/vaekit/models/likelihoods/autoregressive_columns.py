"""The likelihood of a table whose columns depend on one another given z."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.distributions import Distribution

from vaekit.errors import SpecError
from vaekit.models.building import BuildContext, FieldEvent
from vaekit.models.distributions.chained import Chained
from vaekit.models.families import FittedHead, LikelihoodFamily
from vaekit.models.likelihoods.columns import ColumnHeads, Columns
from vaekit.models.likelihoods.histogram import CountHistogram, Histogram
from vaekit.models.networks.columns import ColumnsAsNumbers, Steps
from vaekit.models.networks.masked import MaskedNetwork
from vaekit.models.parameters import Shape
from vaekit.spec import spec

OBSERVED = 20.0  # the logit of a column of which no cell was missing: rounding leaves no draw of a missing one


@spec
class AutoregressiveColumns(LikelihoodFamily):
    """The columns of a table in turn, each given z and those before it: p(x|z) = prod_j p(x_j | x_1..x_(j-1), z).

    To the decoder's raw numbers of each column a masked network adds what the columns before it say. That x_j is
    observed, given x_1..x_(j-1), is a factor as well: what is missing is a part of the row, and is drawn like the rest.
    So samples keep what columns have to do with one another; but no cell has a density by itself, which filling in
    cells and scores of some columns need: take `Columns` for these.

    Source: Germain et al., 2015, arXiv 1502.03509 (MADE), given z as in Gulrajani et al., 2017, arXiv 1611.05013.

    Args:
        columns: The likelihood of each column.
        width: Hidden units of each of the masked network's two layers.

    Example:
        >>> family = AutoregressiveColumns(Columns((Histogram(), Categorical(5))))
        >>> head = family.build(BuildContext(event_shape=(2,)))
        >>> head(torch.zeros(3, family.features((2,)))).log_prob(torch.zeros(3, 2)).shape
        torch.Size([3])
    """

    columns: Columns = Columns(real=Histogram(), positive=Histogram(), count=CountHistogram())
    width: Annotated[int, Field(ge=1, le=65536)] = 256
    kind: Literal["autoregressive_columns"] = "autoregressive_columns"

    accepts = ("mixed",)

    def ties_cells(self, event_shape: Shape) -> bool:
        return True

    def of_fields(self, fields: Sequence[FieldEvent]) -> "AutoregressiveColumns":
        """The same, with the likelihood of each of these columns; see `Columns.of_fields`."""
        return replace(self, columns=self.columns.of_fields(fields))

    def features(self, event_shape: Shape) -> int:
        return self.columns.features(event_shape)

    def build(self, context: BuildContext) -> "ChainedHeads":
        if len(context.event_shape) != 1:
            raise SpecError(
                f"autoregressive_columns is of the columns of a table, and x has the shape {context.event_shape}: take "
                "another likelihood",
                field="BuildContext.event_shape",
                value=context.event_shape,
            )
        fields = context.fields or [FieldEvent("", "real")] * context.event_shape[0]
        return ChainedHeads(self.columns.build(context), fields, self.width)


class ChainedHeads(nn.Module, FittedHead):
    """The head of `AutoregressiveColumns`.

    Args:
        heads: Of the columns.
        fields: The columns.
        width: Of the masked network.

    Attributes:
        observed: The logit of the share of rows in which each column is observed, (columns,).
    """

    observed: Tensor

    def __init__(self, heads: ColumnHeads, fields: Sequence[FieldEvent], width: int):
        super().__init__()
        self.heads, self.count = heads, len(fields)
        self.numbers = ColumnsAsNumbers(fields, missing=True)
        self.steps = Steps(self.numbers.numbers)
        features = heads.features((self.count,))
        owners = torch.empty(features, dtype=torch.int64, device="cpu")
        for column, of in enumerate(heads.of_columns(torch.arange(features, device="cpu"))):
            owners[of] = column
        each = torch.arange(self.count, device="cpu")
        inputs = torch.cat([self.numbers.owners, self.steps.owners])
        outputs = torch.cat([owners, each])
        self.network: MaskedNetwork | None = MaskedNetwork(inputs, outputs, self.count, width)
        self.register_buffer("observed", torch.full((self.count,), OBSERVED))

    def features(self, event_shape: Shape) -> int:
        return self.heads.features(event_shape)

    def forward(self, raw: Tensor, event_shape: Shape | None = None) -> Distribution:
        raw = torch.cat([raw, self.observed.to(raw.dtype).expand(*raw.shape[:-1], -1)], -1)
        return Chained(raw, self._dependence, self.heads.of_values, self.count)

    @torch.no_grad()
    def measure(self, x: Tensor, context: Tensor | None = None) -> None:
        """Measure what the heads and the masked network's inputs hold of the columns, on rows x (n, columns)."""
        self.heads.measure(x)
        self.numbers.measure(x)
        self.steps.measure(x)

    @torch.no_grad()
    def measure_holes(self, mask: Tensor) -> None:
        """Take the share of rows in which each column is observed from a mask (n, columns)."""
        self.observed.copy_(mask.double().mean(0).logit().clamp(-OBSERVED, OBSERVED))

    def initial_parameters(self, x: Tensor) -> Tensor:
        self.measure(x)
        return self.heads.initial_parameters(x)

    def fitted(self, x: Tensor) -> Tensor:
        self.measure(x)
        return self.heads.fitted(x)

    def untied(self) -> "ChainedHeads":
        """A copy whose columns do not depend on one another."""
        other = copy.deepcopy(self)
        other.network = None
        return other

    def _dependence(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.network is None:
            return x.new_zeros(())
        return self.network(torch.cat([self.numbers(x, mask), self.steps(x, mask)], -1))
