"""Exported models: what goes in and comes out is as the data is stored, and is what torch gives."""

import json

import numpy as np
import onnxruntime
import pytest
import torch

from naming import naming
from vaekit.cli.main import main
from vaekit.errors import ConfigError, NotApplicable
from vaekit.export import TOLERANCE, export_onnx
from vaekit.runs import fit, make_run, override, preset

TINY = [
    "limit.train=60",
    "limit.valid=20",
    "train.epochs=1",
    "train.batch_size=20",
    "model.latent=3",
    "model.encoder={kind: mlp, widths: [8]}",
    "model.decoder={kind: mlp, widths: [8]}",
]


def run_of(folder, *settings):
    return fit(make_run(override(preset("digits"), [*TINY, f"run_dir={folder / 'run'}", *settings])), progress=False)


def called(folder, name, **inputs):
    session = onnxruntime.InferenceSession(folder / name, providers=["CPUExecutionProvider"])
    return session.run(None, {key: np.asarray(value) for key, value in inputs.items()})


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return run_of(tmp_path_factory.mktemp("digits"))


def test_pictures_go_in_and_come_out_as_they_are_stored(digits, tmp_path):
    found = export_onnx(digits, tmp_path / "out")
    assert set(found.differences) == {"encoder.mean", "encoder.scale", "decoder.mean"}
    assert max(found.differences.values()) <= TOLERANCE
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    assert described["encoder"]["inputs"]["x"]["shape"] == ["batch", 1, 8, 8]
    x = np.random.default_rng(0).integers(0, 17, (9, 1, 8, 8))
    mean, scale = called(tmp_path / "out", "encoder.onnx", x=x.astype(np.float32))
    np.testing.assert_allclose(mean, digits.encode(x), rtol=0, atol=1e-5)
    assert (scale > 0).all()
    (back,) = called(tmp_path / "out", "decoder.onnx", z=mean)
    np.testing.assert_allclose(back, digits.reconstruct(x), rtol=1e-5, atol=1e-5)


def test_a_table_with_missing_cells_and_a_context(tmp_path):
    rng, n = np.random.default_rng(0), 90
    job = rng.choice(["cook", "clerk", ""], n)
    rows = [f"{rng.normal(40, 9):.2f},{j},{rng.normal():.3f},{rng.choice(['a', 'b'])}" for k, j in enumerate(job)]
    (tmp_path / "table.csv").write_text("\n".join(["age,job,score,kind", *rows]))
    settings = [f"data.source={tmp_path / 'table.csv'}", "data.context=[kind]", f"run_dir={tmp_path / 'run'}"]
    trained = fit(make_run(override({}, [*TINY, *settings])), progress=False)
    export_onnx(trained, tmp_path / "out")
    described = json.loads((tmp_path / "out" / "export.json").read_text())
    columns = described["encoder"]["inputs"]["x"]["columns"]
    assert [column["name"] for column in columns] == ["age", "job", "score"]
    assert columns[1]["categories"] == ["clerk", "cook"]
    names = described["decoder"]["inputs"]["context"]["names"]
    context = np.array([[float(name in ("kind=a", "kind=b")[k : k + 1]) for name in names] for k in (0, 1)])
    x = np.array([[30, 1, 0.5], [np.nan, np.nan, -1.0]])
    mean, _ = called(tmp_path / "out", "encoder.onnx", x=x, context=context)
    import pandas as pd

    frame = pd.DataFrame({"age": [30, None], "job": ["cook", None], "score": [0.5, -1.0], "kind": ["a", "b"]})
    np.testing.assert_allclose(mean, trained.encode(frame), rtol=0, atol=1e-5)
    (back,) = called(tmp_path / "out", "decoder.onnx", z=mean, context=context)
    ours = trained.reconstruct(frame).to_pandas()
    np.testing.assert_allclose(back[:, 2], ours["score"], atol=1e-3)
    assert [columns[1]["categories"][int(code)] for code in back[:, 1]] == ours["job"].tolist()


def test_what_cannot_be_exported_leaves_nothing(tmp_path, monkeypatch):
    trained = run_of(tmp_path, "model.posterior={kind: planar, steps: 2}")
    with pytest.raises(NotApplicable, match="encoder"):
        export_onnx(trained, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]


def test_a_file_that_differs_from_torch_is_not_kept(digits, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", _save_another)
    with pytest.raises(NotApplicable, match="differs"):
        export_onnx(digits, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def _save_another(program, path):
    """The program with its first weight moved."""
    import onnx

    model = program.model_proto
    weight = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    moved = np.frombuffer(weight.raw_data, np.float32) + 0.01
    weight.raw_data = moved.tobytes()
    onnx.save(model, path)


def test_the_command(digits, tmp_path, capsys):
    folder, out = digits.folder.path, tmp_path / "out"

    def command(*words):
        with pytest.raises(SystemExit) as leaving:
            main(["export", str(folder), "--out", str(out), *words])
        return leaving.value.code, capsys.readouterr()

    code, shown = command("--json")
    assert code == 0
    assert json.loads(shown.out)["out"] == str(out)
    code, shown = command()
    assert code == 2
    assert "it exists" in shown.err
    assert command("--force")[0] == 0
    (out / "mine.txt").write_text("kept")
    assert command("--force")[0] == 2
    assert (out / "mine.txt").read_text() == "kept"


def test_bad_folders_are_refused_before_any_work(digits, tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "none" / "out"):
        with pytest.raises(ConfigError, check=naming("out", out)):
            export_onnx(digits, out)


def test_without_the_extra_it_is_one_line(digits, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install 'vaekit\[onnx\]'"):
        export_onnx(digits, tmp_path / "out")
