"""What a model trained with data.context is told of rows that come without it: drawn, or read back as codes."""

import numpy as np
import torch

from vaekit.data import Codes
from vaekit.errors import ConfigError, DataError
from vaekit.runs import TrainedRun


def context_for(opened: TrainedRun, label: str | None, rows: range) -> torch.Tensor | None:
    """What the model is told of rows by number: one label, or every one in turn; the mean of covariates.

    Raises:
        ConfigError: the label is unknown, or the model is told none.
    """
    told = opened.schema.context
    if label is None:
        if told is None:
            return None
        ahead = rows.start % len(told.names)
        return torch.from_numpy(told.examples(ahead + len(rows))[ahead:])
    if told is None or told.kind != "label":
        raise ConfigError(f"--label is {label}, and {opened.folder.path} was not trained with data.context=label")
    if label not in told.names:
        raise ConfigError(f"--label is {label}: it should be one of {', '.join(told.names)}")
    return torch.eye(len(told.names))[told.names.index(label)].expand(len(rows), -1)


def context_of_codes(opened: TrainedRun, codes: Codes, label: str | None) -> tuple[np.ndarray | None, str]:
    """The number of the class (rows,) that the model is told of each code read from a file, None where it is not the
    file's to say; and words on what it is told instead.

    Raises:
        ConfigError: the label is unknown, or the model is told none, or is to be told one and there is none.
        DataError: the file's labels are no classes.
    """
    told = opened.schema.context
    if told is None or label is not None:
        context_for(opened, label, range(1))
        return None, "" if label is None else f", label {label}"
    if told.kind != "label":
        return None, f", at the mean of {', '.join(told.names)}"
    if codes.labels is None:
        raise ConfigError(
            f"this model is told each row's label, and {codes.path} has none: give --label, or codes that "
            f"`vaekit encode` wrote with them; labels are {', '.join(told.names)}"
        )
    known = {str(number): number for number in range(len(told.names))}
    if not np.isin(codes.labels, list(known)).all():
        known = {name: number for number, name in enumerate(told.names)}
    unknown = next((text for text in codes.labels.tolist() if text not in known), None)
    if unknown is not None:
        raise DataError(
            f"{codes.path} has the label {unknown[:60]!r}: it should be the number of a class, from 0 to "
            f"{len(told.names) - 1}, or its name ({', '.join(told.names)})"
        )
    return np.array([known[text] for text in codes.labels.tolist()]), ", each z with its own label"
