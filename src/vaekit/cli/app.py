"""The command line: one verb for each job. Nothing here imports torch before a verb needs it."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from vaekit import __version__
from vaekit.cli.app_use import Json, decode, encode, evaluate, reconstruct, report, sample

Words = Annotated[str, Parameter(allow_leading_hyphen=True)]

EPILOGUE = """\
Example, from nothing to a report:

    vaekit train digits
    vaekit evaluate runs/digits-1
    vaekit report runs/digits-1

Settings are paths, as in `vaekit train digits train.epochs=20 model.latent=8`, or their last names alone where only one
path ends so, as in `vaekit train digits --epochs 20 --latent 8`; `vaekit presets NAME` shows them all.

Exit codes: 0 done, 1 failed, 2 usage or settings, 3 data, 4 model file, 5 diverged (with
`vaekit train --strict` also: a finding is an error), 129, 130, 141 and 143 interrupted.
Add --debug to any command for the traceback of an error.
"""

app = App(
    name="vaekit",
    version=__version__,
    help="Train, evaluate and use variational autoencoders.",
    help_epilogue=EPILOGUE,
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)

for place, verb in enumerate((evaluate, report, sample, reconstruct, encode, decode), 1):
    app.command(verb, sort_key=place)


@app.command(sort_key=0)
def train(
    *arguments: Words,
    preset: str | None = None,
    config: Path | None = None,
    run_dir: Path | None = None,
    resume: Path | None = None,
    extend: Path | None = None,
    source: Annotated[Path | None, Parameter(name="--from")] = None,
    strict: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Train a model on DATA and keep it in a run folder.

    DATA is a name (see `vaekit data`) or a path; a set with a preset of the same name is trained with it.

    For example:

        vaekit train digits
        vaekit train mnist --preset mnist-conv seed=1
        vaekit train table.csv model.latent=4 train.epochs=100 --run-dir runs/mine
        vaekit train digits --latent 2 --epochs 10
        vaekit train --preset tutorial objective.gradient=score
        vaekit train --resume runs/digits-1
        vaekit train --extend runs/digits-1 train.epochs=100
        vaekit train --from runs/digits-1 objective=iwae train.lr=1e-4
        torchrun --nproc-per-node 2 -m vaekit train mnist --run-dir runs/mnist

    Parameters
    ----------
    arguments
        DATA, and settings: path=value, --path value, or the last name of a path alone where only one ends so.
    preset
        Start from these settings (see `vaekit presets`).
    config
        Start from the settings in this YAML file.
    run_dir
        Folder for the run; by default the next free one under runs/.
    resume
        Go on with the run in this folder, as if it had never stopped.
    extend
        Go on with the run in this folder to more epochs, with train.epochs=N; in the folder, or in a copy at --run-dir.
    source
        Start a new run from the settings and the weights of the run in this folder; its model has to stay as it is.
    strict
        Leave with exit code 5 if a finding says that the trained model is in error; its weights are kept all the same.
    """
    from vaekit.cli.train import train_command

    train_command(arguments, preset, config, run_dir, resume, json, extend, source, strict)


@app.command(sort_key=7)
def presets(name: str | None = None, /, *, json: Json = False) -> None:
    """List the presets, or print one with every setting written out.

    For example:

        vaekit presets
        vaekit presets tutorial

    Parameters
    ----------
    name
        The preset to print.
    """
    from vaekit.cli.listings import presets_command

    presets_command(name, json)


@app.command(sort_key=8)
def data(data: str | None = None, /, *settings: Words, json: Json = False) -> None:
    """List the data sets that are known by name, or describe one, or a file.

    For example:

        vaekit data
        vaekit data table.csv data.label=species

    Parameters
    ----------
    data
        A name or a path.
    settings
        Settings, as for `vaekit train`.
    """
    from vaekit.cli.listings import data_command

    data_command(data, settings, json)
