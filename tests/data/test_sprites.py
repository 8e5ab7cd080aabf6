"""The bundled sprites: each a picture of its own, of the factors that it is said to have, in every split."""

import json

import numpy as np
import pytest
import torch

from vaekit.data import Binary, DataSpec, Limit, Rows, Schema, prepare
from vaekit.data.named import where
from vaekit.data.named.sprites import PLACES, RADIUS, SCALES, SIDE, sprites
from vaekit.data.open import open_table

DIGITS = "238980e4d1c08218"  # what the fingerprint of `digits` began with before sources had factors


@pytest.fixture(scope="module")
def source():
    return sprites()


def test_every_combination_of_factors_is_a_picture_of_its_own(source):
    sizes = source.factor_sizes
    assert source.whole().shape == (np.prod(sizes), 1, SIDE, SIDE)
    assert set(np.unique(source.whole())) == {0, 1}
    np.testing.assert_array_equal(np.ravel_multi_index(source.factors.T, sizes), np.arange(len(source.factors)))
    pictures = np.packbits(source.whole().reshape(len(source.whole()), -1), 1)
    assert len(np.unique(pictures, axis=0)) == len(pictures)


def test_a_sprite_is_where_and_as_large_as_its_factors_say(source):
    pixels = source.whole()[:, 0].astype(float)
    area, middle = pixels.sum((1, 2)), np.arange(SIDE) + 0.5
    _, scale, angle, x, y = source.factors.T
    centres = (pixels.sum(1) @ middle / area - PLACES[x], pixels.sum(2) @ middle / area - PLACES[y])
    is_heart = source.labels == 2  # its middle is not its centre of mass
    assert max(abs(centre[~is_heart]).max() for centre in centres) < 0.5
    for shape, exact in ((0, 2.0), (1, np.pi / 2)):
        for size, factor in enumerate(SCALES):
            found = area[(source.labels == shape) & (scale == size)].mean()
            assert found == pytest.approx(exact * (RADIUS * factor) ** 2, rel=0.01)
    flat = (angle == 0) & (source.labels == 1)
    assert (pixels[flat].any(1).sum(1) > 1.7 * pixels[flat].any(2).sum(1)).all()  # wider than high


def test_sprites_have_a_name_classes_and_factors():
    source = open_table(DataSpec(source="sprites"), Limit())
    assert where("sprites") == "bundled"
    assert source.stored == Binary()
    assert source.classes == ("square", "ellipse", "heart")
    assert source.factor_names == ("shape", "scale", "angle", "x", "y")
    assert source.factors is not None
    np.testing.assert_array_equal(source.labels, source.factors[:, 0])


def test_every_split_keeps_the_factors_of_its_rows(source):
    data = prepare(DataSpec(source="sprites"), Limit(train=500))
    schema = data.schema
    assert (schema.factor_names, schema.factor_sizes) == (source.factor_names, source.factor_sizes)
    assert isinstance(data.train, Rows)
    for rows in (data.train, data.valid, data.test, data.test.take(10).to("cpu")):
        assert rows.factors is not None
        assert rows.factors.dtype == torch.int64
        number = np.ravel_multi_index(rows.factors.numpy().T, source.factor_sizes)
        np.testing.assert_array_equal(rows.batch(slice(None)).numpy(), source.whole()[number])
    assert len(data.train) == 500
    assert prepare(DataSpec(source="digits"), Limit()).test.factors is None


def test_factors_change_no_fingerprint_and_older_schemas_are_read(source):
    assert prepare(DataSpec(source="digits"), Limit()).schema.fingerprint.startswith(DIGITS)
    schema = prepare(DataSpec(source="sprites"), Limit()).schema
    assert Schema.from_json(schema.to_json()) == schema
    older = {key: value for key, value in json.loads(schema.to_json()).items() if not key.startswith("factor")}
    assert Schema.from_json(json.dumps(older)).factor_names is None
