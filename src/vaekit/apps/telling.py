"""What a model trained with data.context is told of rows that come without it: drawn, or read back as codes."""

from pathlib import Path

import numpy as np
import torch

from vaekit.apps.codes import read_labels
from vaekit.errors import ConfigError, DataError
from vaekit.report.pictures import example_context
from vaekit.runs import Opened


def context_for(opened: Opened, label: str | None, n: int) -> torch.Tensor | None:
    """What the model is told of n rows: one label, or every one in turn; the mean of covariates.

    Raises:
        ConfigError: the label is unknown, or the model is told none.
    """
    told = opened.schema.context
    if label is None:
        return example_context(opened.schema, n)
    if told is None or told.kind != "label":
        raise ConfigError(f"--label is {label}, and {opened.folder.path} was not trained with data.context=label")
    if label not in told.names:
        raise ConfigError(f"--label is {label}: it should be one of {', '.join(told.names)}")
    return torch.eye(len(told.names))[told.names.index(label)].expand(n, -1)


def told_what(opened: Opened, label: str | None) -> str:
    """What `context_for` tells the model, in words."""
    told = opened.schema.context
    if told is None:
        return ""
    if told.kind != "label":
        return f", with the mean of {', '.join(told.names)}"
    return ", every label in turn" if label is None else f", label {label}"


def context_of_latents(opened: Opened, latents: Path, label: str | None, n: int) -> tuple[torch.Tensor | None, str]:
    """What the model is told of n codes read from a file, and words that say so: the label that is given, or those
    beside the codes; the mean of covariates.

    Raises:
        ConfigError: the label is unknown, or the model is told none, or is to be told one and there is none.
        DataError: the file's labels are no numbers of classes.
    """
    told = opened.schema.context
    if told is None or label is not None:
        return context_for(opened, label, n), "" if label is None else f", label {label}"
    if told.kind != "label":
        return context_for(opened, None, n), told_what(opened, None)
    labels = read_labels(latents)
    if labels is None:
        raise ConfigError(
            f"this model is told each row's label, and {latents} has none: give --label, or codes that "
            f"`vaekit encode` wrote with them; labels are {', '.join(told.names)}"
        )
    numbers = np.arange(len(told.names))
    if labels.shape != (n,) or not np.isin(labels, numbers).all():
        raise DataError(f"the labels in {latents} should be {n} numbers of classes, from 0 to {numbers[-1]}")
    return torch.eye(len(numbers))[torch.from_numpy(labels.astype(np.int64))], ", each z with its own label"
