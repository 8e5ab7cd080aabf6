"""What an encoder sees of columns of several kinds."""

import torch

from vaekit.models.building import FieldEvent
from vaekit.models.networks.columns import ColumnsAsNumbers


def test_columns_without_a_number_are_measured_without_a_warning() -> None:
    transform = ColumnsAsNumbers([FieldEvent("a", "categorical", 3)])
    transform.measure(torch.tensor([[0.0], [2.0], [1.0]]))
    assert torch.isfinite(transform(torch.tensor([[1.0]]))).all()
