"""Pictures of recordings: their log-mel features in decibels, over seconds and kilohertz; and the sound of features."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit.data.sound import Sound, mel, wav_bytes
from vaekit.report.figures import WIDTH, new_figure, pictured

ACROSS = 4  # recordings side by side
_KILOHERTZ = (0.125, 0.25, 0.5, 1, 2, 4, 8, 16)
_PER_NEPER = 10 / np.log(10)  # decibels of a mean square, for each unit of its logarithm


@pictured
def spectrograms(rows: Sequence[np.ndarray], sound: Sound, names: Sequence[str]) -> Figure:
    """Recordings side by side, a line of them for each name; all panels have one scale of decibels, above the floor.

    Args:
        rows: Of each line, features as they are stored, (recordings, ..., bands, frames).
        sound: What the features are.
        names: Of the lines.
    """
    lines = [_PER_NEPER * one.reshape(len(one), *one.shape[-2:])[:ACROSS] for one in rows]
    floor = _PER_NEPER * float(np.log(sound.features.floor))
    top = max(floor + 10, float(np.quantile(np.concatenate([one.ravel() for one in lines]), 0.999)))
    figure = new_figure(2 * WIDTH, 0.9 + 1.9 * len(lines))
    grid = figure.subplots(len(lines), ACROSS, squeeze=False, sharex=True, sharey=True)
    image = None
    for line, name, panels in zip(lines, names, grid, strict=True):
        for one, axes in zip(line, panels, strict=False):
            image = axes.imshow(
                one,
                origin="lower",
                aspect="auto",
                extent=(*_seconds(sound, one.shape[1]), 0, len(one)),
                cmap="magma",
                vmin=floor,
                vmax=top,
                interpolation="nearest",
            )
            axes.grid(visible=False)
        for axes in panels[len(line) :]:
            axes.set_visible(False)
        panels[0].set_title(name, fontsize=9.5)
        _name_bands(panels[0], sound)
    for axes in grid[-1]:
        axes.set_xlabel("s")
        axes.locator_params(axis="x", nbins=4)
    if image is not None:
        figure.colorbar(image, ax=grid, label="dB", pad=0.01, fraction=0.03)
    return figure


def wavs(rows: np.ndarray, sound: Sound) -> list[bytes]:
    """The sound of features as they are stored, (n, ..., bands, frames), each as a wav file."""
    return [wav_bytes(one, sound.features.rate) for one in sound.of_rows(rows)]


def _seconds(sound: Sound, frames: int) -> tuple[float, float]:
    """Where a picture of so many frames begins and ends, whose first is around 0 seconds."""
    step = sound.features.hop / sound.features.rate
    return -step / 2, (frames - 0.5) * step


def _name_bands(axes: Axes, sound: Sound) -> None:
    """Name frequencies in kilohertz where the bands with these centres are."""
    features = sound.features
    lowest, top = (float(mel(torch.tensor(f, dtype=torch.float64))) for f in (features.lowest, features.top))
    step = (top - lowest) / (features.bands + 1)
    shown = [f for f in _KILOHERTZ if features.lowest < 1000 * f <= features.top]
    places = [(float(mel(torch.tensor(1000.0 * f, dtype=torch.float64))) - lowest) / step - 0.5 for f in shown]
    inside = [(place, f) for place, f in zip(places, shown, strict=True) if 0 <= place <= features.bands + 0.5]
    axes.set_yticks([place for place, _ in inside], [f"{f:g}" for _, f in inside])
    axes.set_ylim(0, features.bands)
    axes.set_ylabel("kHz")
