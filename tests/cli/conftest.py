import json
import shlex
from pathlib import Path

import pytest
from tiny import TINY

from vaekit.cli.main import main


@pytest.fixture
def cli(capsys):
    """Run a command line in this process: its exit code, stdout and stderr."""

    def run(line: str):
        capsys.readouterr()
        with pytest.raises(SystemExit) as leaving:
            main(shlex.split(line))
        out, err = capsys.readouterr()
        return leaving.value.code, out, err

    return run


@pytest.fixture
def cli_json(cli):
    def run(line: str):
        code, out, err = cli(f"{line} --json")
        assert code == 0, err
        return json.loads(out)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """A run folder on digits, trained for two epochs. Tests only read it."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    with pytest.raises(SystemExit) as leaving:
        main(["train", "digits", *TINY.split(), "--run-dir", str(folder)])
    assert leaving.value.code == 0
    return folder
