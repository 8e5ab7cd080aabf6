"""Sampling z from the model's own prior."""

from typing import Literal

from vaekit.spec import spec


@spec
class FromPrior:
    """z from the model's own prior, p(z)."""

    kind: Literal["prior"] = "prior"

    def __str__(self) -> str:
        return "the prior"
