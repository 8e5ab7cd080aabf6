"""The context of rows that a model with data.context generates or decodes: a label, or the mean of covariates."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch

from vaekit.data import Codes
from vaekit.data.context import given_columns, given_context
from vaekit.errors import ConfigError, DataError
from vaekit.report.pictures import OF_TRAINING_ROWS, context_in_words
from vaekit.runs import TrainedRun
from vaekit.runs.validation import samples_are_conditional


def context_of_rows(trained: TrainedRun, label: str | None, rows: range) -> torch.Tensor | None:
    """The context of rows by number: one label, or every one in turn; the mean of covariates.

    Returns:
        (rows, width), or None for a model without context.

    Raises:
        ConfigError: The label is unknown, or the model takes none.
    """
    context = trained.schema.context
    if label is None:
        if context is None:
            return None
        ahead = rows.start % max(1, len(context.given))
        return torch.from_numpy(context.examples(ahead + len(rows))[ahead:])
    if context is None or context.kind != "label":
        raise ConfigError(
            f"--label is {label}, and {trained.folder.path} was not trained with data.context=label",
            field="label",
            value=label,
        )
    if label not in context.given:
        raise ConfigError(
            f"--label is {label}: it should be one of {', '.join(context.given)}", field="label", value=label
        )
    _check_conditional(trained, "label", label)
    return torch.eye(len(context.names))[context.given.index(label)].expand(len(rows), -1)


def _check_conditional(trained: TrainedRun, option: str, value: str) -> None:
    """Refuse a context that what the model generates does not depend on."""
    if not samples_are_conditional(trained.settings):
        to = ", ".join(trained.settings.data.context_to)
        raise ConfigError(
            f"--{option} is {value}, and {trained.folder.path} was trained with data.context_to={to}, so that samples "
            "do not depend on the context: leave it out",
            field=option,
            value=value,
        )


def context_given(trained: TrainedRun, given: Sequence[str], label: str | None) -> torch.Tensor | None:
    """The context (1, width) of values as column=value; None where none are given.

    Raises:
        ConfigError: They are no such values, or the model takes none of them.
    """
    if not given:
        return None
    context = trained.schema.context
    if label is not None:
        raise ConfigError("--label and --given both say what to condition on: give one of them", field="given")
    if context is None:
        raise ConfigError(
            f"--given is {given[0]}, and {trained.folder.path} was trained on no table, and without data.context: "
            "leave it out",
            field="given",
            value=given[0],
        )
    _check_conditional(trained, "given", given[0])
    with naming_given():
        return torch.from_numpy(given_context(context, values_given(given)))


@contextmanager
def naming_given() -> Iterator[None]:
    """Within, an error of values names the option that gave them."""
    try:
        yield
    except DataError as error:
        raise ConfigError(f"--given: {error}", field="given") from None


def with_columns_given(trained: TrainedRun, given: Sequence[str]) -> TrainedRun:
    """The run, whose tables have the columns whose values are given as column=value, too."""
    if not given or trained.schema.context is None:
        return trained
    constants = (*trained.schema.constants, *given_columns(trained.schema.context, values_given(given)))
    return replace(trained, schema=replace(trained.schema, constants=constants))


def values_given(given: Sequence[str]) -> dict[str, str]:
    """Values as column=value by the name of the column.

    Raises:
        ConfigError: One is no such text, or a column has two.
    """
    if wrong := [text for text in given if not text.partition("=")[0] or "=" not in text]:
        raise ConfigError(f"--given is {wrong[0]}: give column=value", field="given", value=wrong[0])
    names = [text.partition("=")[0] for text in given]
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise ConfigError(f"--given has two values of {twice!r}: give one", field="given", value=twice)
    return {name: value for name, _, value in (text.partition("=") for text in given)}


def context_of_samples(
    trained: TrainedRun, n: int, given: Sequence[str], label: str | None, seed: int, data: str | None
) -> tuple[torch.Tensor | None, str]:
    """The context (n, width) of new rows, and which one it is, in words; None for a model without.

    Raises:
        ConfigError: What is given is no context of the model.
        DataError: The training rows are needed, and are gone.
    """
    if given:
        fixed = context_given(trained, given, label)
        return None if fixed is None else fixed.expand(n, -1), f", given {', '.join(given)}"
    if label is not None:
        return context_of_rows(trained, label, range(n)), f", label {label}"
    of_rows = OF_TRAINING_ROWS if trained.draws_contexts else context_in_words(trained.schema)
    return trained.contexts(n, seed, data), of_rows


def check_only_given(label: str | None, source: str, temperature: float, mean: bool) -> None:
    """Refuse what does not go with rows that are drawn with columns given."""
    if label is not None:
        raise ConfigError("--label and --given both say what to condition on: give one of them", field="given")
    if source != "prior" or temperature != 1 or mean:
        raise ConfigError(
            "--given draws rows with these columns from the prior as it is: leave out --from, --temperature and --mean",
            field="given",
        )


def context_of_codes(trained: TrainedRun, codes: Codes, label: str | None) -> tuple[np.ndarray | None, str]:
    """The class of each code in a file, where the file's labels decide.

    Returns:
        The number of each code's class (rows,), or None where the context is another one; and words that say which.

    Raises:
        ConfigError: The label is unknown, or the model takes none, or it needs one and there is none.
        DataError: The file's labels are no classes.
    """
    context = trained.schema.context
    if context is None or label is not None:
        context_of_rows(trained, label, range(1))
        return None, "" if label is None else f", label {label}"
    if context.kind != "label":
        return None, f", at {context.centre}"
    if codes.labels is None:
        raise ConfigError(
            f"this model is conditioned on each row's label, and {codes.path} has none: give --label, or codes that "
            f"`vaekit encode` wrote with them; labels are {', '.join(context.given)}",
            field="label",
        )
    known = {name: number for number, name in enumerate(context.given)}
    if not np.isin(codes.labels, list(known)).all():
        known = {str(number): number for number in range(len(context.given))}
    unknown = next((text for text in codes.labels.tolist() if text not in known), None)
    if unknown is not None:
        raise DataError(
            f"{codes.path} has the label {unknown[:60]!r}: it should be the name of a class "
            f"({', '.join(context.given)}), or its number, from 0 to {len(context.given) - 1}"
        )
    return np.array([known[text] for text in codes.labels.tolist()]), ", each z with its own label"
