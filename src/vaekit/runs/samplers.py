"""Drawing from a trained run: its model with a sampler in place of the prior. What was fitted is kept with the run."""

import hashlib
import json
import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from vaekit.data import Rows, StreamedRows
from vaekit.errors import ConfigError, ModelFileError
from vaekit.evaluation import evaluating, fingerprint
from vaekit.files import parse_json
from vaekit.models import VAE, HierarchicalVAE
from vaekit.models.building import ALONE
from vaekit.models.compatibility import Row, go_together, posterior_row, sampler_row
from vaekit.models.distributions.noise import draw_from
from vaekit.models.generative import BLOCK
from vaekit.models.hierarchical.model import LatentBlock
from vaekit.randomness import Purpose, new_generator
from vaekit.runs.trained_run import TrainedRun, reopen
from vaekit.samplers import FittedSampler, FromPrior, ModelSampler, Sampler
from vaekit.samplers.fitting import check_real, seeded
from vaekit.samplers.temperature import Tempered, TemperedBlock, check_temperature
from vaekit.training import (
    FORMAT_VERSION,
    NewerFormat,
    check_alike,
    most_bytes,
    pack_tensors,
    refuse_newer,
    unpack_tensors,
)

CODES = 20_000  # that a density is fitted to, about
FOLDER = "samplers"


@dataclass(frozen=True)
class Sampling:
    """A model to `generate` from, and where its z come from.

    source: in words, for whatever shows the rows that are drawn.
    facts: what a fitted sampler was fitted to; empty for others.
    """

    model: VAE | HierarchicalVAE
    source: str
    facts: dict[str, Any]


def sampling(
    trained: TrainedRun,
    sampler: Sampler | FittedSampler | ModelSampler | None = None,
    temperature: float = 1.0,
    data: str | None = None,
) -> Sampling:
    """The model of a run with another source of z in place of its prior.

    A mixture or a flow is fitted when it is first used and kept in RUN/samplers; it is fitted anew when the
    weights, the data or its settings are others than those it was fitted to.

    Args:
        trained: The run.
        sampler: The source; by default the model's prior.
        temperature: See `vaekit.samplers.temperature.tempered`; of every group of latents.
        data: Where the data that the run was trained on lies now; by default where it lay then.

    Raises:
        ConfigError: The temperature is not above 0, or z is not of a kind that the sampler takes.
        DataError: The training rows are needed, and are gone or have changed.
    """
    check_temperature(temperature)
    model, device = trained.model, next(trained.model.parameters()).device
    sampler = FromPrior() if sampler is None else sampler
    is_prior = getattr(sampler, "is_prior", False)
    row, context = sampler_row(sampler), trained.schema.context
    if context is not None and not go_together(sampler=row, context=Row(context.kind)):
        raise ConfigError(
            "z of a model with a context depends on that, which only its prior takes: use prior",
            field="sampler",
            value=sampler,
        )
    posterior = posterior_row(trained.settings.model.posterior)
    if not (trained.own_modules or go_together(sampler=row, posterior=posterior)):
        raise ConfigError(
            f"model.posterior is {posterior.kind}, whose z is {posterior.z}, and a mixture or a flow is fitted to "
            "vectors of real numbers: draw from the prior or from the aggregated posterior",
            field="sampler",
            value=sampler,
        )
    if isinstance(sampler, ModelSampler):
        prior, facts = sampler.of_model(model, lambda: reopen(trained, data).train.to(device)), {}
    else:
        prior, facts = _fitted(trained, sampler, data)
        prior = prior.to(device)
    if temperature != 1:
        prior = Tempered(prior, temperature)
        context = trained.context(1)
        prior(*(() if context is None else (context.to(device),)))  # refuses a family that has no temperature
    if isinstance(model, HierarchicalVAE):
        blocks = list(model.blocks)
        if temperature != 1:
            blocks = [TemperedBlock(cast(LatentBlock, block), temperature) for block in blocks]
        drawn = HierarchicalVAE(model.posterior, prior, model.start, blocks, model.likelihood)
        below = "" if is_prior else ", and from the prior below the first group"
        return Sampling(drawn.eval(), f"{sampler}{below}", facts)
    return Sampling(VAE(model.posterior, prior, model.likelihood).eval(), str(sampler), facts)


def training_codes(model: VAE | HierarchicalVAE, rows: Rows | StreamedRows, n: int = CODES, seed: int = 0) -> Tensor:
    """At least n draws of the first group's z ~ q(z|x), (.., size), on the CPU.

    Equally many for each of at most n training rows.
    """
    chosen, found = rows.some(n), []
    draws = math.ceil(n / len(chosen))
    with evaluating(model):
        for number, index in enumerate(chosen.split(BLOCK)):
            generator = new_generator(seed, Purpose.SAMPLER_CODES, number, device=rows.device)
            q = model.encode(**rows.inputs(index, generator)).posteriors[0]
            check_real(q)
            found += [draw_from(q, (draws,), generator).flatten(0, 1).cpu()]
    return torch.cat(found)


def _fitted(trained: TrainedRun, sampler: FittedSampler, data: str | None) -> tuple[nn.Module, dict[str, Any]]:
    facts = {
        "sampler": asdict(cast(Any, sampler)),
        "seed": trained.settings.seed,
        "data": trained.schema.fingerprint,
        "weights": fingerprint(trained.model),
    }
    size = math.prod(trained.latent_shapes[0])
    found = _read(trained, sampler, size, facts)
    if found is not None:
        return found, {**facts, "fitted": "before"}
    train = reopen(trained, data).train.to(next(trained.model.parameters()).device)
    found = sampler.fit(training_codes(trained.model, train, CODES, trained.settings.seed), trained.settings.seed)
    _keep(trained, sampler, found, facts)
    return found, {**facts, "fitted": "now"}


def _read(trained: TrainedRun, sampler: FittedSampler, size: int, facts: dict[str, Any]) -> nn.Module | None:
    """The sampler that was fitted before to just this; None if there is none, or its files are damaged."""
    folder, name = trained.folder, f"{FOLDER}/{sampler.kind}"
    where = folder.path / f"{name}.json"
    with seeded(
        new_generator(0, Purpose.TRIAL)
    ):  # its first weights, which are replaced, cost the caller's generator nothing
        fitted = sampler.build(ALONE.over((size,))).requires_grad_(False)
    try:
        about = folder.read_bytes(f"{name}.json")
        refuse_newer(about, where)
        content = folder.read_bytes(f"{name}.safetensors", most_bytes(fitted.state_dict()))
        kept = parse_json(about)
        tensors, _ = unpack_tensors(content, folder.path / f"{name}.safetensors")
    except NewerFormat:
        raise
    except (FileNotFoundError, ValueError, ModelFileError):
        return None
    if kept != _about(facts, content) or check_alike(tensors, fitted.state_dict()):
        return None
    fitted.load_state_dict(tensors)
    return fitted


def _keep(trained: TrainedRun, sampler: FittedSampler, fitted: nn.Module, facts: dict[str, Any]) -> None:
    folder, name = trained.folder, f"{FOLDER}/{sampler.kind}"
    content = pack_tensors(fitted.state_dict(), {})
    try:
        folder.write(f"{name}.safetensors", content)
        folder.write(f"{name}.json", (json.dumps(_about(facts, content), indent=2) + "\n").encode())
    except OSError as error:
        text = f"the {sampler.kind} could not be kept in {folder.path / FOLDER} ({error.strerror}): it is fitted anew"
        warnings.warn(f"{text} next time", stacklevel=2)


def _about(facts: dict[str, Any], content: bytes) -> dict[str, Any]:
    """What stands beside the tensors of a sampler: what it was fitted to, and which bytes they are."""
    about = {"format_version": FORMAT_VERSION, **facts, "sha256": hashlib.sha256(content).hexdigest()}
    return json.loads(json.dumps(about))  # tuples as JSON has them, to compare with what was read
