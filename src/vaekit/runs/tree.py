"""Run: the one typed tree of settings, YAML <-> tree <-> `path=value`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import is_dataclass, replace
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from vaekit.data import DataSpec, Limit
from vaekit.errors import VaekitError
from vaekit.findings import Finding
from vaekit.models import (
    DenseHierarchy,
    Gaussian,
    Groups,
    Hamiltonian,
    Likelihood,
    Mlp,
    Network,
    Posterior,
    Prior,
    StandardNormal,
)
from vaekit.objectives import Elbo, Objective
from vaekit.spec import Several, Text, by_kind, in_words, spec
from vaekit.training.spec import Train
from vaekit.words import counted


@spec
class ModelSpec:
    """What to build.

    Args:
        latent: Dimensions of z; of a discrete one, its groups or positions.
        encoder: Network from x to the numbers of q(z|x); none chooses it by the data: convolutions for pictures of 16
            pixels or more a side, else fully connected layers.
        posterior: Family of q(z|x).
        decoder: Network from z to the numbers of p(x|z); none chooses it likewise.
        likelihood: Family of p(x|z); none chooses it by the data's support.
        prior: p(z).
        refine: How draws of q(z|x) are moved nearer to the true posterior; none leaves them.
        bias_start: Start the decoder's output bias at the best fit to the data without z.
        input_scale: How the encoder sees x; "auto" as its support asks for, counts by ln (1 + x). "log1p_of_shares" is
            ln (1 + 10,000 x / sum x), "unit_length" is x / |x|; both are for counts and {0, 1}.
        input_dropout: The probability with which each number of the encoder's input is hidden in training; where cells
            may be missing, and of columns of several kinds, that of a whole cell, which is then seen as missing.
    """

    latent: Annotated[int, Field(ge=1, le=100_000_000)] = 16
    encoder: Network | None = None
    decoder: Network | None = None
    posterior: Posterior = Gaussian()
    likelihood: Likelihood | None = None
    prior: Prior = StandardNormal()
    refine: Annotated[Hamiltonian | None, by_kind] = None
    bias_start: bool = True
    input_scale: Literal["auto", "log1p_of_shares", "unit_length"] = "auto"
    input_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    kind: Literal["vae"] = "vae"

    several_groups = False
    assumed: ClassVar[Mapping[str, Network]] = MappingProxyType({"encoder": Mlp(), "decoder": Mlp()})

    @property
    def summary(self) -> str:
        """The model's shape in a few words."""
        encoder, decoder = ("open" if one is None else one.kind for one in (self.encoder, self.decoder))
        return f"{counted(self.latent, 'latent')}, {encoder} encoder, {decoder} decoder"


@spec
class HierarchicalSpec:
    """A hierarchical VAE: several groups of latents, from the top down.

    Args:
        groups: Their sizes, and the networks between them.
        posterior: Family of q(z_1|x), of the first group; the others' are diagonal Gaussians.
        prior: p(z_1), of the first group.
        likelihood, bias_start: see `ModelSpec`.
    """

    groups: Groups = DenseHierarchy()
    posterior: Posterior = Gaussian()
    prior: Prior = StandardNormal()
    likelihood: Likelihood | None = None
    bias_start: bool = True
    kind: Literal["hierarchical"] = "hierarchical"

    several_groups = True
    refine = None

    @property
    def summary(self) -> str:
        """The model's shape in a few words."""
        return f"{self.groups.kind} hierarchy, {self.groups.summary}"


Choice = Annotated[ModelSpec | HierarchicalSpec, Field(discriminator="kind"), by_kind]


@in_words
class Run(BaseModel):
    """All settings of one run. Frozen; unknown keys are refused.

    Args:
        name: Of the run, used for its folder; without slashes.
        about: What the run is and where it comes from.
        seed: Of the weights' start, the order of the rows and all noise in training.
        data, model, objective, train, limit: the parts' settings.
        initialise_from: Folder of a run with the same model, whose weights this one begins with.
        run_dir: Folder to write to; none writes nothing.
        provenance: What besides these settings the weights come from; written by vaekit when the run begins.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    name: Annotated[Text, Field(pattern=r"^[^/\\]*[^/\\.][^/\\]*$", max_length=200)] = "run"
    about: Text = ""
    seed: Annotated[int, Field(ge=0)] = 0
    data: DataSpec = DataSpec()
    model: Choice = ModelSpec()
    objective: Objective = Elbo()
    train: Train = Train()
    limit: Limit = Limit()
    initialise_from: Text | None = None
    run_dir: Text | None = None
    provenance: Several[Text] = ()


_names_settings: ContextVar[bool] = ContextVar("messages name settings", default=True)


@contextmanager
def in_python_words() -> Iterator[None]:
    """Within, messages name fields as Python has them, `Train.lr`: there are no settings to name."""
    token = _names_settings.set(False)
    try:
        yield
    finally:
        _names_settings.reset(token)


def in_settings(text: str) -> str:
    """A message of the library in which fields are named as settings: `DataSpec.label` becomes `data.label`.

    Those of `Run` itself are at the top: `Run.run_dir` becomes `run_dir`.

    Args:
        text: The message.
    """
    if not _names_settings.get():
        return text
    for path, field in Run.model_fields.items():
        for part in get_args(field.annotation) or (field.annotation,):
            if isinstance(part, type) and is_dataclass(part):
                text = re.sub(rf"\b{part.__name__}\.(?=[a-z])", f"{path}.", text)
    return re.sub(r"\bRun\.(?=[a-z])", "", text)


def finding_in_settings(finding: Finding) -> Finding:
    """A finding of the library whose text names settings; see `in_settings`."""
    return replace(finding, why=in_settings(finding.why), fix=in_settings(finding.fix))


@contextmanager
def naming_settings() -> Iterator[None]:
    """Within, errors of the library name settings; see `in_settings`."""
    try:
        yield
    except VaekitError as error:
        text, field = in_settings(str(error)), in_settings(error.field)
        if (text, field) == (str(error), error.field):
            raise
        raise type(error)(text, field=field, value=error.value) from None
