"""Weights that a run begins with, from another run."""

from vaekit.errors import ModelFileError
from vaekit.models import VAE, Ladder
from vaekit.runs.opened import Opened, open_run
from vaekit.runs.samplers import fingerprint
from vaekit.runs.tree import Run


def inherit(run: Run, model: VAE | Ladder) -> Run:
    """Give a model the weights of the run that `run.initialise_from` names, where it names one.

    Returns:
        The run, whose provenance says which weights these are.

    Raises:
        ModelFileError: there is no such run, or its weights are of another model.
    """
    if run.initialise_from is None:
        return run.model_copy(update={"provenance": ()})
    source = open_run(run.initialise_from)
    theirs, ours = source.model.state_dict(), model.state_dict()
    unlike = [name for name in sorted(theirs.keys() | ours.keys()) if _shape(theirs, name) != _shape(ours, name)]
    if unlike:
        more = f", and {len(unlike) - 1} more are unlike" if len(unlike) > 1 else ""
        raise ModelFileError(
            f"the weights of {source.folder.path} do not fit these settings: {unlike[0]} is "
            f"{_shape(theirs, unlike[0])} there and {_shape(ours, unlike[0])} here{more}; keep model.* and the shape "
            "of the data as they were"
        )
    model.load_state_dict(theirs)
    return run.model_copy(update={"provenance": (_which(source),)})


def _which(source: Opened) -> str:
    weights = f"{source.weights['weights']} weights, epoch {source.weights.get('epoch', 'unknown')}"
    return f"initialised from {source.folder.path.name} ({weights}, SHA-256 {fingerprint(source.model)[:12]})"


def _shape(tensors: dict, name: str) -> str:
    return str(tuple(tensors[name].shape)) if name in tensors else "missing"
