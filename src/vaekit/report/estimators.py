"""Bias and variance of the gradient estimators, measured where the true gradient is known: shown in an ablation."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from vaekit.objectives import GradientReading, gradient_check
from vaekit.report.collect import RunFacts
from vaekit.report.components import SIGMA, Cell, Picture, Section, Table, cells
from vaekit.report.figures import (
    COLOURS,
    DENSITY,
    HEIGHT,
    MARKERS,
    WIDTH,
    add_legend,
    name_axes,
    new_figure,
    pictured,
    power_of_ten,
)

ROWS = 20_000  # independent estimates for each reading
_UNUSUAL = ("detached", "score")


def calls_for_estimators(facts: Sequence[RunFacts]) -> bool:
    """Whether the runs differ in their gradient estimators, or use one whose variance or bias has to be known."""
    kinds = {f.run.objective.gradient.kind for f in facts}
    return len(kinds) > 1 or not kinds.isdisjoint(_UNUSUAL)


def estimators_section(rows: int = ROWS) -> Section:
    """The table and the figures of `gradient_check`."""
    readings = gradient_check(rows=rows)
    text = (
        "Each estimator's gradient of the ELBO is measured on a linear-Gaussian model, where the exact gradient is "
        "known: early in training, where q(z|x) is the prior, and near the optimum, where it is the best diagonal "
        "Gaussian.",
        "An unbiased estimator's mean differs from the exact gradient by chance alone, so its largest |z| stays below "
        "about 4; variances are those of one sample.",
        "The detached estimator has little variance and is biased: the mean of its estimates is zero, whatever the "
        "true gradient is, so it does not train the encoder.",
    )
    pictures = tuple(_variances(readings, mu) for mu in (True, False))
    head = (
        "estimator",
        "unbiased",
        "|bias|",
        "|exact gradient|",
        "largest |z|",
        "variance, μ",
        f"variance, ln {SIGMA}",
    )
    table = Table(head, tuple(map(_row, readings)), f"{rows:,} independent estimates for each reading, seed 0.")
    return Section("Gradient estimators", text, pictures, (table,))


def _row(reading: GradientReading) -> tuple[Cell, ...]:
    numbers = (reading.bias, reading.exact, reading.largest_z, reading.variance_mu, reading.variance_log_sigma)
    unbiased = "yes" if reading.unbiased else "no"
    return (Cell(reading.name, reading.place), *cells(unbiased, *(_three_digits(value) for value in numbers)))


def _three_digits(value: float) -> str:
    if abs(value) < 1e-9:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _variances(readings: Sequence[GradientReading], mu: bool) -> Picture:
    of = "μ" if mu else f"ln {SIGMA}"
    return Picture(
        name=f"estimators-variance-{'mu' if mu else 'log-sigma'}",
        image=_dots(readings, mu),
        alt=f"Variance of each estimator's gradient to {of}, on a logarithmic scale, early and near the optimum.",
        density=DENSITY,
    )


@pictured
def _dots(readings: Sequence[GradientReading], mu: bool) -> Figure:
    """One row for each estimator, one mark for each place."""
    of = "μ" if mu else f"ln {SIGMA}"
    names = list(dict.fromkeys(reading.name for reading in readings))
    places = list(dict.fromkeys(reading.place for reading in readings))
    figure = new_figure(WIDTH, HEIGHT - 0.3)
    axes = figure.subplots()
    handles = []
    for i, place in enumerate(places):
        here = [reading for reading in readings if reading.place == place]
        values = [reading.variance_mu if mu else reading.variance_log_sigma for reading in here]
        beside = 0.24 * (i - (len(places) - 1) / 2)  # so that no mark hides another
        rows = [names.index(reading.name) + beside for reading in here]
        handles += axes.plot(values, rows, linestyle="", marker=MARKERS[i], color=COLOURS[i], markersize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_major_formatter(FuncFormatter(power_of_ten))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    name_axes(axes, f"Variance of the gradient to {of}", "nats² per sample", "")
    add_legend(figure, handles, places)
    return figure
