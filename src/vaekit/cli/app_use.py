"""The verbs that use a trained run, as `cli` lists them. Nothing here imports torch before a verb needs it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter, Token

from vaekit.errors import ConfigError


def whole(hint: Any, tokens: Sequence[Token]) -> int:
    """A whole number, and nothing that is merely near to one."""
    try:
        return int(tokens[0].value)
    except ValueError:
        raise ValueError(f"{tokens[0].value[:40]!r} is not a whole number.") from None


Whole = Annotated[int, Parameter(converter=whole)]
Run = Annotated[Path, Parameter(help="The run folder.")]
Data = Annotated[
    str | None,
    Parameter(help="Data to use, by name or path, or - for a table on stdin; by default the run's test rows."),
]
Out = Annotated[Path, Parameter(name=["--out", "-o"])]
Force = Annotated[bool, Parameter(negative="", help="Replace the file that is to be written, if it exists.")]
WEIGHTS = "Weights to use; by default those that the run's settings name."
Weights = Annotated[Literal["best", "last"] | None, Parameter(help=WEIGHTS)]
Json = Annotated[
    bool, Parameter(name="--json", negative="", help="Print one JSON object, and nothing else, on stdout.")
]
Suite = Literal["likelihood", "latents", "samples", "disentanglement", "representation", "all"]


def evaluate(
    run: Run,
    /,
    *,
    suite: Suite | None = None,
    samples: Annotated[Whole, Parameter(name=["--samples", "-k"])] = 64,
    data: str | None = None,
    split: Literal["train", "valid", "test"] = "test",
    rows: Whole | None = None,
    weights: Weights = None,
    seed: Whole = 0,
    per_row: Path | None = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Measure bounds on the log-likelihood, with standard errors, on rows held out from training.

    For example:

        vaekit evaluate runs/digits-1
        vaekit evaluate runs/mnist-1 --samples 500 --json
        vaekit evaluate runs/digits-1 --suite likelihood --samples 1000
        vaekit evaluate runs/digits-1 --suite all --json
        vaekit evaluate runs/digits-1 --data new.csv --per-row scores.csv

    Parameters
    ----------
    suite
        What to measure in place of the usual bounds: likelihood (the bound for K up to --samples, annealed importance
        sampling, bidirectional Monte Carlo); latents (active units, KL by dimension, the aggregate posterior); samples
        (Frechet distance, KID, precision, recall, density, coverage); disentanglement (scores against known factors);
        representation (labels read off codes); or all of these.
    samples
        K, samples of z for each row, of the importance-weighted bound.
    data
        Other data than the run's, by name or path, all of its rows; or where the run's own data lies now, which is
        split as it was.
    split
        Rows of the run's own data to use.
    rows
        Use only the first ROWS of them.
    seed
        Of the noise.
    per_row
        File to write, .csv, .npz or .parquet: of each row its number among those that are used, counted from 0, its
        ELBO, its bound on the log-likelihood, rate, distortion, and the number of its class if it has a label.
    """
    from vaekit.cli.request import EvaluationRequest

    asked = EvaluationRequest(run, samples, data, split, rows, weights, seed)
    if suite is not None:
        from vaekit.cli.suites import suite_command

        if per_row is not None:
            raise ConfigError(f"--per-row writes the usual bounds, and --suite {suite} measures others: leave one out")
        return suite_command(asked, suite, json)
    from vaekit.cli.evaluate import evaluate_command

    return evaluate_command(asked, json, per_row, force)


def report(
    *runs: Path,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    samples: Annotated[Whole, Parameter(name=["--samples", "-k"])] = 64,
    full_paths: Annotated[bool, Parameter(negative="")] = False,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write one HTML page with curves, pictures and numbers of a run, or of several side by side.

    For example:

        vaekit report runs/digits-1
        vaekit report runs/tutorial-1 runs/tutorial-score-1 --out ablation.html

    Parameters
    ----------
    runs
        Run folders.
    out
        The page; by default report.html in the first run's folder.
    samples
        K of the importance-weighted bound.
    full_paths
        Show whole paths, as of data and run folders, where a report names files; it is made to be sent to others.
    """
    from vaekit.cli.evaluate import report_command

    report_command(runs, out, samples, json, force, full_paths)


def sample(
    run: Run,
    /,
    *,
    n: Annotated[Whole, Parameter(name=["-n", "--number"])] = 64,
    out: Out,
    label: str | None = None,
    source: Annotated[Literal["prior", "aggregated", "mixture", "flow"], Parameter(name="--from")] = "prior",
    temperature: float = 1.0,
    mean: Annotated[bool, Parameter(negative="")] = False,
    seed: Whole = 0,
    data: str | None = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Draw new rows from the model: z from the prior or another source, then x from p(x|z).

    For example:

        vaekit sample runs/digits-1 -n 64 --out samples.png
        vaekit sample runs/digits-1 -n 1000 --out samples.npy
        vaekit sample runs/digits-1 --from mixture --temperature 0.8 --mean --out samples.png

    Parameters
    ----------
    n
        How many.
    out
        File to write: .png (a grid of images), .npy, .npz or .csv (values in the units of the data); - is a table on
        stdout.
    label
        What a model trained with data.context=label is told; by default every label in turn.
    source
        Where z comes from: prior; aggregated (q(z|x) of random training rows); mixture or flow, fitted to the codes of
        the training rows when first asked for, and kept in the run folder.
    temperature
        Multiplies the standard deviation of the Gaussian noise behind z: of the prior, of each component of a mixture
        or each q(z|x) around its own mean, or of what a flow transforms; in a hierarchical VAE, of every group of
        latents.
    mean
        Write the mean of p(x|z) in place of a draw from it.
    seed
        Of the draw.
    data
        Where the data that the run was trained on lies now, if it has moved; for --from aggregated, mixture and flow.
    """
    from vaekit.cli.pipes import piped
    from vaekit.cli.sample import sample_command

    with piped(None, out, json) as (_, out):
        sample_command(run, n, out, label, source, temperature, mean, seed, weights, json, force, data)


def reconstruct(
    run: Run,
    data: Data = None,
    /,
    *,
    out: Out,
    n: Annotated[int | None, Parameter(name=["-n", "--number"], converter=whole)] = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Encode rows and decode them again: the mean of q(z|x), then the mean of p(x|z).

    For example:

        vaekit reconstruct runs/digits-1 --out pairs.png
        vaekit reconstruct runs/digits-1 other.npy --out reconstructions.npy

    Parameters
    ----------
    out
        File to write: .png (originals over reconstructions), .npy, .npz or .csv.
    n
        How many rows; by default 16 for a picture, and all for a file of numbers.
    """
    from vaekit.cli.evaluate import reconstruct_command
    from vaekit.cli.pipes import piped

    with piped(data, out, json) as (data, out):
        reconstruct_command(run, data, out, n, weights, json, force)


def encode(
    run: Run, data: Data = None, /, *, out: Out, weights: Weights = None, force: Force = False, json: Json = False
) -> None:
    """Write the code of each row: mean and standard deviation of q(z|x), and the label where there is one.

    For example:

        vaekit encode runs/digits-1 --out codes.npz
        vaekit encode runs/digits-1 other.csv --out codes.csv
        vaekit encode runs/table-1 - --out - < new.csv > codes.csv
        torchrun --nproc-per-node 4 -m vaekit encode runs/big images/ --out codes.parquet

    Parameters
    ----------
    out
        File to write: .npz (mean, scale, label), .csv (columns z0, z1, ..., label), .npy (the means alone) or .parquet
        (row, z0, ..., scale0, ..., label; several processes write a folder of parts).
    """
    from vaekit.cli.encode import encode_command
    from vaekit.cli.pipes import piped

    with piped(data, out, json) as (data, out):
        encode_command(run, data, out, weights, json, force)


def decode(
    run: Run,
    latents: Path,
    /,
    *,
    out: Out,
    label: str | None = None,
    weights: Weights = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write the mean of p(x|z) for each z in a file.

    For example:

        vaekit decode runs/digits-1 codes.npz --out decoded.png
        vaekit decode runs/labels-1 codes.npz --label 7 --out sevens.png

    Parameters
    ----------
    latents
        z as .npy (rows, latent), .npz (its array `mean` or `z`), .csv or .parquet (columns z0, z1, ..., in any order).
    out
        File to write: .png, .npy, .npz or .csv.
    label
        What a model trained with data.context=label is told; by default the label that the file has for each z.
    """
    from vaekit.cli.evaluate import decode_command
    from vaekit.cli.pipes import piped

    with piped(str(latents), out, json) as (source, out):
        decode_command(run, Path(source or latents), out, label, weights, json, force)
