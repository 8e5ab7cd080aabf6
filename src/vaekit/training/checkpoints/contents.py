"""Between a state and the files of a checkpoint: safetensors and JSON, no pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from vaekit.errors import ModelFileError
from vaekit.training.checkpoints.store import Checkpoint
from vaekit.training.checkpoints.tensors import check_alike, most_bytes, pack_tensors, unpack_tensors
from vaekit.training.run_files import (
    FORMAT_VERSION,
    MOST_BYTES,
    Circumstances,
    Epoch,
    WeightsFacts,
    finite,
    first_mistake,
    parsed,
)
from vaekit.training.state import Progress, Snapshot, State, Tensors

LAST, BEST, TRAINING, PROGRESS = "last.safetensors", "best.safetensors", "training.safetensors", "progress.json"
_GOOD = "good."


class _Saved(BaseModel):
    """progress.json."""

    model_config = ConfigDict(extra="forbid")

    format_version: Literal[1]
    progress: Progress
    good: Progress
    made_by: Circumstances = Circumstances()
    unlogged: list[Epoch] = []


def pack(state: State) -> dict[str, bytes]:
    """The files of a checkpoint, by name.

    last.safetensors and, after a validation, best.safetensors hold weights to use; training.safetensors and
    progress.json what else it takes to go on.

    With several processes, all of them call it.
    """
    now, weights, at = state.capture(), state.weights(), state.at
    rest = {name: value for name, value in now.tensors.items() if state.average is not None or not _is_model(name)}
    if state.good.progress.step != at.step:
        rest |= {_GOOD + name: value for name, value in state.good.tensors.items()}
    facts: dict[str, Any] = {
        "progress": asdict(at),
        "good": asdict(state.good.progress),
        "made_by": circumstances(state).model_dump(),
        "unlogged": [finite(line) for line in state.unlogged],
    }
    about = {"step": at.step, "epoch": at.epoch, "best_epoch": at.best_epoch}
    files = {
        LAST: pack_tensors(weights, about),
        TRAINING: pack_tensors(rest, {}),
        PROGRESS: (json.dumps({"format_version": FORMAT_VERSION, **facts}, indent=2) + "\n").encode(),
    }
    if state.best:
        judge = "valid_elbo" if state.step.validated_samples == 1 else "valid_bound"
        files[BEST] = pack_tensors(state.best, {"epoch": at.best_epoch, judge: at.best_elbo})
    return files


def wanted(state: State) -> dict[str, int]:
    """The files that training goes on from, and how many bytes each can have."""
    weights = weights_wanted(state.step.model.state_dict())
    return {LAST: weights[LAST], BEST: weights[BEST], TRAINING: state.most_bytes(), PROGRESS: MOST_BYTES[PROGRESS]}


def weights_wanted(model: Mapping[str, Tensor]) -> dict[str, int]:
    """The files of weights of a model, and how many bytes each can have."""
    return dict.fromkeys((LAST, BEST), most_bytes(model))


def unpack(checkpoint: Checkpoint, state: State, batch_size: int) -> str:
    """Put the state where the checkpoint was made; says so where only nearly the same numbers can follow.

    Raises:
        ModelFileError: The checkpoint is of another model or another way of training.
    """
    for name in (LAST, TRAINING, PROGRESS):
        if name not in checkpoint.files:
            raise ModelFileError(f"{checkpoint.path} has no {name}, without which training cannot go on")
    where = checkpoint.path / PROGRESS
    saved = parsed(_Saved, checkpoint.files[PROGRESS], where)
    for at in (saved.progress, saved.good):
        if not at.is_possible(state.step.rows, batch_size):
            raise ModelFileError(f"{where} is at step {at.step}, epoch {at.epoch}, where this run cannot stand")
    tensors, _ = unpack_tensors(checkpoint.files[TRAINING], checkpoint.path / TRAINING)
    earlier = {name.removeprefix(_GOOD): tensors.pop(name) for name in list(tensors) if name.startswith(_GOOD)}
    last, _ = unpack_tensors(checkpoint.files[LAST], checkpoint.path / LAST)
    if state.average is None:
        tensors |= {f"model.{name}": value for name, value in last.items()}
    if earlier:
        state.check(earlier)
    best = read_weights(checkpoint, "best")[0] if BEST in checkpoint.files else {}
    if best and (found := check_alike(best, state.step.model.state_dict())):
        raise ModelFileError(f"{checkpoint.path / BEST} is of another model: {found}")
    state.restore(Snapshot(saved.progress, tensors))
    state.best = _on(state, best)
    state.good = Snapshot(saved.good, _on(state, earlier)) if earlier else state.capture()
    state.unlogged = [line.model_dump() for line in saved.unlogged]
    return _difference(saved.made_by, circumstances(state))


def read_weights(checkpoint: Checkpoint, name: str) -> tuple[Tensors, dict[str, str]]:
    """The weights `name` (best or last) and what is known of them; weights that are not finite are refused."""
    file = f"{name}.safetensors"
    where = checkpoint.path / file
    if file not in checkpoint.files:
        raise ModelFileError(f"{checkpoint.path} has no {file}: the run stopped before its first validation")
    weights, metadata = unpack_tensors(checkpoint.files[file], where)
    try:
        WeightsFacts.model_validate(metadata)
    except ValidationError as error:
        raise ModelFileError(f"the weights {where} are damaged: {first_mistake(error)}") from None
    for key, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelFileError(f"the weights {where} hold numbers that are not finite, in {key}: train again")
    return weights, metadata


def circumstances(state: State) -> Circumstances:
    """What the last bits of a number depend on, besides the settings."""
    device = next(state.step.parameters()).device
    threads = torch.get_num_threads()
    return Circumstances(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        threads=threads if device.type == "cpu" else 0,
        processes=state.step.world.size,
        torch=str(torch.__version__),
    )


def _difference(before: Circumstances, now: Circumstances) -> str:
    pairs = [(name, getattr(before, name), getattr(now, name)) for name in Circumstances.model_fields]
    changed = [f"{name} {then} before, {here} now" for name, then, here in pairs if then != here]
    if not changed:
        return ""
    return f"results will be close to those of a run without a stop, not bitwise equal: {', '.join(changed)}"


def _on(state: State, tensors: Mapping[str, Tensor]) -> Tensors:
    device = next(state.step.parameters()).device
    return {name: value.to(device) for name, value in tensors.items()}


def _is_model(name: str) -> bool:
    return name.startswith("model.")
