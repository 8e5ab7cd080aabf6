"""Pictures of rows: brightness, grids, and what a training loop asks for."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from naming import naming
from vaekit.data import Binary, Levels, Real, Schema, Unit
from vaekit.errors import SpecError
from vaekit.randomness import new_generator
from vaekit.report import (
    captioned,
    image_grid,
    pairs_grid,
    pictures,
    reconstruction_picture,
    rows_picture,
    sample_picture,
    to_unit,
)
from vaekit.report.columns import bin_edges
from vaekit.report.pictures import GUTTER, brightness, film_strip
from vaekit.runs import open_run, reopen

IMAGE = Schema("made", "image", (1, 2, 2), Unit(), Unit(), None, None, None, None, "", "")


@pytest.mark.parametrize(
    ("x", "schema", "expected"),
    [
        ([0.0, 0.25, 1.5], IMAGE, [0, 0.25, 1]),
        ([0, 8, 16], replace(IMAGE, support=Levels(17), stored=Levels(17)), [0, 0.5, 1]),
        ([0.0, 0.5, 1.0], replace(IMAGE, stored=Levels(17), loc=(0.0,), scale=(16.0,)), [0, 0.5, 1]),
        ([0.0, 0.3, 1.0], replace(IMAGE, support=Binary(), stored=Levels(256)), [0, 0.3, 1]),
        ([-1.0, 0.0, 1.0], replace(IMAGE, support=Real(), stored=Levels(17), loc=(8.0,), scale=(8.0,)), [0, 0.5, 1]),
        ([-9.0, 0.0, 3.0], replace(IMAGE, support=Real(), stored=Real(), loc=(5.0,), scale=(2.0,)), [0, 0.5, 1]),
        ([-2.0, 0.0, 2.0], replace(IMAGE, support=Real(), stored=Real()), [0, 0.5, 1]),
        ([7.0, 7.0, 7.0], replace(IMAGE, support=Real(), stored=Real()), [0.5, 0.5, 0.5]),
    ],
    ids=["unit", "levels", "levels to unit", "binarised", "levels standardised", "standardised", "real", "constant"],
)
def test_brightness_follows_the_range_of_the_data(x: list[float], schema: Schema, expected: list[float]) -> None:
    np.testing.assert_allclose(to_unit(np.array(x), schema), expected)


def test_brightness_is_said_in_the_units_of_the_source() -> None:
    assert brightness(replace(IMAGE, stored=Levels(17), loc=(0.0,), scale=(16.0,))) == "black is 0, white is 16"
    assert brightness(replace(IMAGE, support=Binary(), stored=Levels(17))) == "black is 0, white is 1"


def test_a_grid_enlarges_pixels_to_squares_between_gutters() -> None:
    images = np.arange(12).reshape(3, 1, 2, 2) / 11
    picture = np.asarray(image_grid(images, columns=2, pad=1, scale=3))
    assert picture.shape == (2 * 6 + 3, 2 * 6 + 3)
    assert (picture[1:4, 1:4] == 0).all()
    assert (picture[11:14, 4:7] == 255).all()
    assert (picture[0] == GUTTER).all()
    assert (picture[8:, 8:] == GUTTER).all(), "the place of a fourth image is empty"


def test_a_small_digit_is_readable_by_default() -> None:
    assert min(image_grid(np.zeros((1, 1, 8, 8))).size) >= 48


def test_colours_stay_and_transparency_shows_the_gutter() -> None:
    red = np.array([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    clear = np.array([1.0, 0.0, 0.0, 0.0]).reshape(1, 4, 1, 1)
    assert image_grid(red, pad=0, scale=1).getpixel((0, 0)) == (255, 0, 0)
    assert image_grid(clear, pad=0, scale=1).getpixel((0, 0)) == (GUTTER,) * 3


def test_reconstructions_stand_below_their_originals() -> None:
    originals = np.zeros((3, 1, 2, 2))
    picture = np.asarray(pairs_grid(originals, originals + 1, columns=2, pad=1, scale=1))
    assert picture[:, 1].tolist() == [GUTTER] + [0, 0, GUTTER, 255, 255] + [GUTTER] * 5 + [
        0,
        0,
        GUTTER,
        255,
        255,
        GUTTER,
    ]


@pytest.mark.parametrize("shape", [(0, 1, 2, 2), (3, 2, 2)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, check=naming("images")):
        image_grid(np.zeros(shape))


@pytest.mark.parametrize("channels", [2, 5])
def test_channels_that_are_no_colours_are_side_by_side(channels: int) -> None:
    images = np.random.default_rng(0).random((3, channels, 4, 5))
    one = np.concatenate([images[:, at : at + 1] for at in range(channels)], 3)
    assert np.array_equal(image_grid(images, scale=1), image_grid(one, scale=1))
    assert np.array_equal(pairs_grid(images, images, scale=1), pairs_grid(one, one, scale=1))


def test_pairs_must_match() -> None:
    with pytest.raises(SpecError, check=naming("reconstructions")):
        pairs_grid(np.zeros((2, 1, 2, 2)), np.zeros((3, 1, 2, 2)))


@pytest.mark.parametrize("run", ["digits", "table"])
def test_pictures_for_a_training_loop_leave_everything_as_it_was(run: str, request, globals_untouched) -> None:
    folder: Path = request.getfixturevalue(run)
    trained = open_run(folder)
    model, x = trained.model.train(), reopen(trained).valid.batch(slice(0, 16))
    with globals_untouched():
        pictures = [
            reconstruction_picture(model, trained.schema, x),
            sample_picture(model, trained.schema, 20, new_generator(0), mean=True),
            sample_picture(model, trained.schema, 20, new_generator(0), mean=False),
        ]
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    for picture in pictures:
        assert np.asarray(picture).std() > 5


@pytest.mark.parametrize("mean", [True, False])
def test_a_picture_says_below_it_whether_it_shows_means_or_draws(digits: Path, mean: bool, monkeypatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(pictures, "captioned", lambda picture, text: texts.append(text) or captioned(picture, text))
    trained = open_run(digits)
    plain = rows_picture(np.zeros((9, 1, 8, 8)), trained.schema)
    assert sample_picture(trained.model, trained.schema, 9, new_generator(0), mean).height > plain.height
    reconstruction_picture(trained.model, trained.schema, reopen(trained).valid.batch(slice(0, 4)))
    kind = "means" if mean else "draws"
    below = "originals, and below each the mean of p(x|z) at the mean of q(z|x)"
    assert texts == [f"{kind} of p(x|z), z from the prior", below]


def test_few_values_are_all_in_their_histogram() -> None:
    values = np.array([0.1, 0.7, 2.3, 9.9, -4.2])
    assert np.histogram(values, bin_edges([values]))[0].sum() == 5


def test_the_same_generator_gives_the_same_samples(digits: Path) -> None:
    trained = open_run(digits)
    first, second, other = (
        np.asarray(sample_picture(trained.model, trained.schema, 9, new_generator(seed), mean=False))
        for seed in (1, 1, 2)
    )
    assert (first == second).all()
    assert (first != other).any()


def test_nothing_of_matplotlib_changes_on_import_or_drawing(table: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    trained = open_run(table)
    sample_picture(trained.model, trained.schema, 5, torch.Generator(), mean=True)
    assert dict(mpl.rcParams) == before


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def test_a_film_strip_has_the_first_and_the_last_epoch_and_no_captions() -> None:
    def grid(grey: int) -> bytes:
        return png(captioned(Image.new("RGB", (460, 460), (grey, grey, grey)), "means of p(x|z), z from the prior"))

    pictures = {epoch: grid(10 * epoch) for epoch in range(1, 13)}
    strip = film_strip(pictures | {0: b"no picture", 13: grid(9)[:-40], 14: png(Image.new("1", (8000, 8000)))})
    assert strip is not None
    assert strip.size == (6 * 240 - 10, 26 + 230)
    assert [strip.getpixel((240 * place + 100, 250))[0] for place in (0, 5)] == [10, 120]
    assert film_strip({1: grid(0)}) is None
