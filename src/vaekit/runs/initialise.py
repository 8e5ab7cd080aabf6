"""Weights that a run begins with, from another run."""

from vaekit.errors import ModelFileError
from vaekit.evaluation import fingerprint
from vaekit.models import VAE, HierarchicalVAE
from vaekit.runs.trained_run import TrainedRun, open_run
from vaekit.runs.tree import Run
from vaekit.training import check_alike


def inherit(run: Run, model: VAE | HierarchicalVAE) -> Run:
    """Give a model the weights of the run that `run.initialise_from` names, where it names one.

    Returns:
        The run, whose provenance says which weights these are.

    Raises:
        ModelFileError: There is no such run, or its weights are of another model.
    """
    if run.initialise_from is None:
        return run.model_copy(update={"provenance": ()})
    source = open_run(run.initialise_from)
    theirs = source.model.state_dict()
    if unlike := check_alike(theirs, model.state_dict()):
        raise ModelFileError(
            f"the weights of {source.folder.path} do not fit these settings: {unlike}; keep model.* and the shape of "
            "the data as they were"
        )
    model.load_state_dict(theirs)
    return run.model_copy(update={"provenance": (_which(source),)})


def _which(source: TrainedRun) -> str:
    weights = f"{source.weights['weights']} weights, epoch {source.weights.get('epoch', 'unknown')}"
    return f"initialised from {source.folder.path.name} ({weights}, SHA-256 {fingerprint(source.model)[:12]})"
