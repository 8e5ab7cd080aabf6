"""Between a state and the files of a checkpoint: safetensors and JSON, no pickle."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vaekit.errors import ModelFileError
from vaekit.training.checkpoints import FORMAT_VERSION, Checkpoint
from vaekit.training.state import Progress, Snapshot, State, Tensors

LAST, BEST, TRAINING, PROGRESS = "last.safetensors", "best.safetensors", "training.safetensors", "progress.json"
_GOOD = "good."


def pack(state: State) -> dict[str, bytes]:
    """The files of a checkpoint: last.safetensors and, after a validation, best.safetensors hold weights to use;
    training.safetensors and progress.json what else it takes to go on.

    With several processes every one has to call it.
    """
    now, weights, at = state.capture(), state.weights(), state.at
    rest = {name: value for name, value in now.tensors.items() if state.average is not None or not _is_model(name)}
    if state.good.progress.step != at.step:
        rest |= {_GOOD + name: value for name, value in state.good.tensors.items()}
    facts: dict[str, Any] = {
        "progress": asdict(at),
        "good": asdict(state.good.progress),
        "made_by": circumstances(state),
    }
    facts["unlogged"] = state.unlogged
    about = {"step": at.step, "epoch": at.epoch, "best_epoch": at.best_epoch}
    files = {
        LAST: _save(weights, about),
        TRAINING: _save(rest, {}),
        PROGRESS: (json.dumps({"format_version": FORMAT_VERSION, **facts}, indent=2) + "\n").encode(),
    }
    if state.best:
        judge = "valid_elbo" if state.step.validated_samples == 1 else "valid_bound"
        files[BEST] = _save(state.best, {"epoch": at.best_epoch, judge: at.best_elbo})
    return files


def unpack(checkpoint: Checkpoint, state: State) -> str:
    """Put the state where the checkpoint was made; says so where only nearly the same numbers can follow.

    Raises:
        ModelFileError: the checkpoint is of another model or another way of training.
    """
    facts = json.loads(checkpoint.files[PROGRESS])
    try:
        adapter = TypeAdapter(Progress)
        progress, good = adapter.validate_python(facts["progress"]), adapter.validate_python(facts["good"])
    except (KeyError, ValidationError):
        raise ModelFileError(f"{checkpoint.path / PROGRESS} is not one that this version can go on from") from None
    tensors = load(checkpoint.files[TRAINING])
    earlier = {name.removeprefix(_GOOD): tensors.pop(name) for name in list(tensors) if name.startswith(_GOOD)}
    if state.average is None:
        tensors |= {f"model.{name}": value for name, value in load(checkpoint.files[LAST]).items()}
    state.restore(Snapshot(progress, tensors))
    state.best = _on(state, load(checkpoint.files[BEST])) if BEST in checkpoint.files else {}
    state.good = Snapshot(good, _on(state, earlier)) if earlier else state.capture()
    state.unlogged = list(facts.get("unlogged", []))
    return _difference(facts.get("made_by", {}), circumstances(state))


def read_weights(checkpoint: Checkpoint, name: str) -> tuple[Tensors, dict[str, str]]:
    """The weights `name` (best or last) and what is known of them; weights that are not finite are refused."""
    file = f"{name}.safetensors"
    if file not in checkpoint.files:
        raise ModelFileError(f"{checkpoint.path} has no {file}: the run stopped before its first validation")
    content, where = checkpoint.files[file], checkpoint.path / file
    try:
        weights = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError) as error:
        raise ModelFileError(f"cannot read the weights {where}: {error}; train again, or give another run") from None
    for key, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ModelFileError(f"the weights {where} hold numbers that are not finite, in {key}: train again")
    return weights, dict(header.get("__metadata__", {}))


def circumstances(state: State) -> dict[str, Any]:
    """What the last bits of a number depend on, besides the settings."""
    device = next(state.step.parameters()).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    threads = torch.get_num_threads()
    return {
        "device": name,
        "threads": threads if device.type == "cpu" else 0,
        "processes": state.step.world.size,
        "torch": str(torch.__version__),
    }


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changed = [f"{name} {before[name]} before, {now[name]} now" for name in now if before.get(name) != now[name]]
    if not changed:
        return ""
    return f"results will be close to those of a run without a stop, not bitwise equal: {', '.join(changed)}"


def _save(tensors: Tensors, about: Mapping[str, object]) -> bytes:
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return save(plain, {name: str(value) for name, value in {"format_version": FORMAT_VERSION, **about}.items()})


def _on(state: State, tensors: Mapping[str, Tensor]) -> Tensors:
    device = next(state.step.parameters()).device
    return {name: value.to(device) for name, value in tensors.items()}


def _is_model(name: str) -> bool:
    return name.startswith("model.")
