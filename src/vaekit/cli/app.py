"""The command line, assembled from one module for each command. None of them imports torch before it runs."""

from cyclopts import App

from vaekit import __version__
from vaekit.cli.data import data
from vaekit.cli.decode import decode
from vaekit.cli.demo import demo
from vaekit.cli.encode import encode
from vaekit.cli.evaluate import evaluate
from vaekit.cli.explore import explore
from vaekit.cli.export import export
from vaekit.cli.expression import differential, expression
from vaekit.cli.impute import impute
from vaekit.cli.presets import presets
from vaekit.cli.recommend import recommend
from vaekit.cli.reconstruct import reconstruct
from vaekit.cli.report import report
from vaekit.cli.sample import sample
from vaekit.cli.score import score
from vaekit.cli.train import train
from vaekit.cli.traverse import interpolate, manifold, traverse

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
COMMANDS = (
    demo,
    train,
    evaluate,
    report,
    sample,
    reconstruct,
    encode,
    decode,
    explore,
    traverse,
    manifold,
    interpolate,
    impute,
    recommend,
    score,
    expression,
    differential,
    export,
    presets,
    data,
)  # in the order of the help

app = App(
    name="vaekit",
    version=__version__,
    help="Train, evaluate and use variational autoencoders.",
    help_epilogue=EPILOGUE,
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)

for position, command in enumerate(COMMANDS):
    app.command(command, sort_key=position, help_epilogue="")
