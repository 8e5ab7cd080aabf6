"""A run folder may come from anyone: whatever its files are replaced by, it is read, or refused in two lines."""

import hashlib
import json
import os
import shutil
import signal
import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from runs_to_cut import cut, make

from vaekit.errors import DataError, ModelFileError, VaekitError
from vaekit.runs import TrainingRun, open_rows, open_run, sampling
from vaekit.samplers import FromMixture
from vaekit.training import RunFolder

NEWEST = "checkpoints/000002-step-45"
FILES = [
    *("run.yaml", "data.json", "environment.json", "metrics.jsonl", "findings.json", "STATUS", "LOCK"),
    *("samplers", "checkpoints"),
    *("samplers/mixture.json", "samplers/mixture.safetensors", "samples", NEWEST, f"{NEWEST}/MANIFEST.json"),
    *(f"{NEWEST}/{name}.safetensors" for name in ("best", "last", "training")),
    f"{NEWEST}/progress.json",
]
TEXTS = {
    "empty": b"",
    "list": b"[1, 2]",
    "deep": b"[" * 100_000,
    "newer": b'{"format_version": 9}\n',
}
SECONDS = 20  # in which a verb on such a small run must have ended


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    cut(TrainingRun.start(make("mlp", folder)), 45)
    sampling(open_run(folder / "run"), FromMixture(components=3))
    RunFolder(folder / "run").keep_findings([])
    return folder / "run"


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture(autouse=True)
def alarm():
    def too_late(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def sample(run: Path) -> None:
    sampling(open_run(run), FromMixture(components=3))


def read_all(run: Path) -> None:
    folder = open_run(run).folder
    assert isinstance(folder.status(), str)
    assert all(line["epoch"] for line in folder.history())
    assert isinstance(folder.environment(), dict)
    assert isinstance(folder.findings(), tuple)


def resume(run: Path) -> None:
    cut(TrainingRun.resume(run), 46)


VERBS = [sample, read_all, resume]


def refusal(verb, run: Path) -> VaekitError | None:
    """The error that a verb ends with, if it does; any but our own fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a checkpoint that is passed over
        try:
            verb(run)
        except VaekitError as error:
            return error
    return None


def replace(path: Path, kind: str, outside: Path) -> None:
    """Put something else in the place of a file or a folder; what was there is left outside."""
    shutil.move(path, outside)
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(outside)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 10 << 30)
    else:
        path.write_bytes(TEXTS[kind])


def contents(path: Path) -> dict[str, bytes]:
    files = path.rglob("*") if path.is_dir() else [path]
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "device", "sparse", *TEXTS])
def test_whatever_a_file_is_replaced_by(run, tmp_path, name, kind):
    replace(run / name, kind, tmp_path / "outside")
    before = contents(tmp_path / "outside")
    for verb in VERBS:
        error = refusal(verb, run)
        assert error is None or (error.exit_code == 4 and len(str(error)) < 800 and "\n" not in str(error))
    assert contents(tmp_path / "outside") == before, "it was written through a link"


@pytest.mark.parametrize("name", ["run.yaml", "data.json", "environment.json", "metrics.jsonl", "findings.json"])
def test_a_newer_format_is_named(run, name):
    file = run / name
    if name == "run.yaml":
        file.write_text(file.read_text().replace("format_version: 1", "format_version: 99"))
    elif name == "metrics.jsonl":
        file.write_text('{"epoch": 1, "step": 30, "format_version": 99}\n')
    else:
        file.write_text(json.dumps({**json.loads(file.read_text()), "format_version": 99}))
    with pytest.raises(ModelFileError, match=rf"{name}.* 99\b.* 1\b"):
        read_all(run)


def rewrite(run: Path, name: str, content: bytes) -> None:
    """Replace a file of the newest checkpoint, which the manifest agrees with; no other checkpoint is left."""
    shutil.rmtree(run / "checkpoints/000001-step-0", ignore_errors=True)
    (run / NEWEST / name).write_bytes(content)
    manifest = json.loads((run / NEWEST / "MANIFEST.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    sign(run, manifest)


def sign(run: Path, manifest: dict) -> None:
    manifest.pop("sha256")
    text = json.dumps(manifest, indent=2) + "\n"
    whole = {**manifest, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (run / NEWEST / "MANIFEST.json").write_text(json.dumps(whole, indent=2) + "\n")


def with_header(content: bytes, change) -> bytes:
    """A safetensors file with another header before the same numbers; `change` gets a tensor's name and all entries."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    name = next(name for name in header if name.endswith("weight") or name.endswith("weight.exp_avg"))
    changed = change(name, header)
    text = (changed if isinstance(changed, str) else json.dumps(header)).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def twice(name, header):
    return json.dumps(header)[:-1] + f', "{name}": {json.dumps(header[name])}}}'


LIES = {
    "overlapping": lambda name, header: header[name].update(data_offsets=[0, 4]),
    "beyond the end": lambda name, header: header[name].update(data_offsets=[0, 1 << 60]),
    "another type": lambda name, header: header[name].update(dtype="I32"),
    "half as precise": lambda name, header: header[name].update(dtype="F16"),
    "another shape": lambda name, header: header[name].update(shape=header[name]["shape"][::-1]),
    "a huge shape": lambda name, header: header[name].update(shape=[1 << 40, 1 << 40]),
    "a negative shape": lambda name, header: header[name].update(shape=[-1, -1]),
    "twice": twice,
    "one more": lambda name, header: header.update(more={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
    "renamed": lambda name, header: header.update(other=header.pop(name)),
    "newer": lambda name, header: header.update(__metadata__={"format_version": "99"}),
    "metadata of numbers": lambda name, header: header.update(__metadata__={"epoch": 1}),
    "deep": lambda name, header: "[" * 100_000,
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", ["best", "last", "training"])
def test_a_header_that_lies_is_refused_although_the_manifest_agrees(run, name, lie):
    file = f"{name}.safetensors"
    rewrite(run, file, with_header((run / NEWEST / file).read_bytes(), LIES[lie]))
    assert refusal(resume, run).exit_code == 4
    if name == "best":
        assert refusal(read_all, run).exit_code == 4


@pytest.mark.parametrize("length", [0, 1 << 60, (1 << 64) - 1])
def test_a_header_of_false_length_is_refused(run, length):
    for name in ("best.safetensors", "training.safetensors"):
        content = (run / NEWEST / name).read_bytes()
        rewrite(run, name, length.to_bytes(8, "little") + content[8:])
    assert [refusal(verb, run).exit_code for verb in VERBS] == [4, 4, 4]


def test_what_a_manifest_lists_is_in_its_folder_and_no_larger_than_the_model(run):
    manifest = json.loads((run / NEWEST / "MANIFEST.json").read_text())
    listed = manifest["files"]
    shutil.rmtree(run / "checkpoints/000001-step-0")
    for name in ("../../data.json", "/etc/passwd", "a/b.json", "..", "x.safetensors\0"):
        sign(run, {**manifest, "files": {**listed, name: listed["last.safetensors"]}})
        assert [refusal(verb, run).exit_code for verb in VERBS] == [4, 4, 4]
    size = 10 << 30  # of nothing, whose hash anybody may have computed
    os.truncate(run / NEWEST / "best.safetensors", size)
    sign(run, {**manifest, "files": {**listed, "best.safetensors": {"bytes": size, "sha256": "0" * 64}}})
    assert [refusal(verb, run).exit_code for verb in VERBS] == [4, 4, 4]


@pytest.mark.parametrize(
    "change",
    [
        {"step": -1},
        {"step": "45"},
        {"step": 44},
        {"rows": 0},
        {"epoch": 2},
        {"epoch": 10**400},
        {"micro_batch": 0},
        {"lr_factor": float("inf")},
        {"kernels": {"a": ["b"]}},
        {"best_elbo": None},
        {"sums": 3},
        None,
    ],
)
def test_a_progress_that_cannot_be_is_refused(run, change):
    saved = json.loads((run / NEWEST / "progress.json").read_text())
    saved["progress"] = None if change is None else {**saved["progress"], **change}
    rewrite(run, "progress.json", json.dumps(saved).encode())
    assert refusal(resume, run).exit_code == 4


@pytest.mark.parametrize(
    "line", ["[1]", '{"epoch": 0, "step": 1}', '{"epoch": 1, "step": 2, "lr": "x"}', '{"step": 1}']
)
def test_a_line_of_metrics_that_is_none_is_refused(run, line):
    (run / "metrics.jsonl").write_text(f'{line}\n{{"epoch": 1, "step": 30}}\n')
    assert [refusal(verb, run) and refusal(verb, run).exit_code for verb in VERBS] == [None, 4, 4]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [1, 8, -8]},
        {"shape": [1, 10**6, 10**6]},
        {"shape": [64]},
        {"shape": []},
        {"kind": "table"},
        {"loc": [0.0, 1.0], "scale": [1.0, 1.0]},
        {"loc": [0.0], "scale": [0.0]},
        {"fingerprint": "x" * 10_000},
        {"support": {"kind": "levels", "count": 10**30}},
        {"support": {"kind": "real"}},
        {"columns": ["a", "b"]},
    ],
)
def test_data_facts_that_do_not_fit_are_refused(run, change):
    facts = json.loads((run / "data.json").read_text())
    (run / "data.json").write_text(json.dumps({**facts, **change}))
    assert [refusal(verb, run).exit_code for verb in VERBS] == [4, 4, 4]


@pytest.mark.parametrize(
    "change",
    [
        ("latent: 3", "latent: 60000000"),
        ("latent: 3", "latent: 1000000000000000000"),
        ("- 16", "- 1000000000"),
        ("batch_size: 5", "batch_size: 5\n  nonsense: 1"),
        ("kind: bernoulli", "kind: poisson"),
    ],
)
def test_a_model_that_cannot_be_here_is_refused_before_it_is_made(run, change):
    settings = run / "run.yaml"
    assert change[0] in settings.read_text()
    settings.write_text(settings.read_text().replace(*change))
    assert [refusal(verb, run).exit_code for verb in VERBS] == [4, 4, 4]


def test_settings_that_name_other_data_are_refused(run, tmp_path):
    (tmp_path / "table.csv").write_text("a,b\n" + "\n".join(f"{i},{i * i}" for i in range(200)))
    settings = run / "run.yaml"
    source = next(line for line in settings.read_text().splitlines() if "source:" in line)
    settings.write_text(settings.read_text().replace(source, f"  source: {tmp_path / 'table.csv'}"))
    opened = open_run(run)
    for verb in (lambda _: open_rows(opened), resume):
        assert isinstance(refusal(verb, run), DataError | ModelFileError)


def test_a_link_to_the_run_itself_may_be_given(run, tmp_path):
    (tmp_path / "latest").symlink_to(run)
    for verb in VERBS:
        assert refusal(verb, tmp_path / "latest") is None
