"""A trained run as the bytes of the files of its folder, and back: what an estimator is pickled as."""

from pathlib import Path

from vaekit.data import Schema
from vaekit.errors import ModelFileError
from vaekit.runs import TrainedRun, make_run, parse_yaml, to_yaml
from vaekit.runs.factory import build_model
from vaekit.training import check_alike, pack_tensors, unpack_tensors

SETTINGS, SCHEMA, WEIGHTS = "run.yaml", "data.json", "weights.safetensors"


def packed(trained: TrainedRun) -> dict[str, bytes]:
    """The settings as YAML, the schema as JSON and the weights as safetensors, by the names of files."""
    return {
        SETTINGS: to_yaml(trained.settings).encode(),
        SCHEMA: trained.schema.to_json().encode(),
        WEIGHTS: pack_tensors(trained.model.state_dict(), trained.weights),
    }


def unpacked(files: dict[str, bytes]) -> TrainedRun:
    """The trained run of such files.

    Raises:
        ModelFileError: The weights are of another model.
    """
    run, schema = make_run(parse_yaml(files[SETTINGS].decode(), SETTINGS)), Schema.from_json(files[SCHEMA].decode())
    model, (tensors, about) = build_model(run, schema), unpack_tensors(files[WEIGHTS], Path(WEIGHTS))
    if found := check_alike(tensors, model.state_dict()):
        raise ModelFileError(f"the weights of this estimator are of another model: {found}")
    model.load_state_dict(tensors)
    model.scaling = schema.scaling
    return TrainedRun(run, schema, model.eval(), about)
