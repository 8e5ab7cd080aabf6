"""What `vaekit data --out` draws: a panel for each column, examples of all else, and a picture of bounded size."""

import numpy as np
import pyarrow
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from vaekit.data import Dataset, DataSpec, Limit, Rows, prepare
from vaekit.report.figures import compact
from vaekit.report.pictures import image_grid, to_unit
from vaekit.report.understood import MOST_PANELS, Panel, data_picture, table_panels

N = 200
RNG = np.random.default_rng(0)


def of(data, **settings) -> tuple[Dataset, Rows]:
    found = prepare(DataSpec(test_fraction=0, valid_fraction=0.01, **settings), Limit(), data=data)
    return found, found.train.at(torch.arange(len(found.train)))


def drawn(panel: Panel):
    axes = Figure().subplots()
    panel.draw(axes)
    return axes


def test_each_column_has_a_panel_of_its_shares():
    colour = np.array(["red", "green", None], object)[RNG.choice(3, N, p=[0.5, 0.3, 0.2])]
    size = RNG.normal(5, 2, N)
    found, rows = of(pyarrow.table({"id": np.arange(N), "colour": colour, "size": size, "unit": ["cm"] * N}))
    x, mask = rows.batch(slice(None)).double().numpy(), rows.mask.numpy()
    cells = np.where(mask, found.schema.to_stored(x), np.nan)
    panels, said = table_panels(found.schema, cells, ("bernoulli", "gaussian"))
    first, second = panels
    assert (first.title, second.title, second.note) == ("colour", "size", "real, gaussian")
    assert first.note == f"binary, bernoulli, {1 - mask[:, 0].mean():.1%} missing"
    assert said == f"{len(rows)} training rows of 2 columns; heights are shares"
    names = [text.get_text() for text in drawn(first).get_yticklabels()]
    widths = [bar.get_width() for bar in drawn(first).patches]
    codes = [found.schema.fields[0].categories.index(name) for name in names]
    np.testing.assert_allclose(widths, [(cells[mask[:, 0], 0] == code).mean() for code in codes])
    (stairs,) = drawn(second).patches
    heights, edges = stairs.get_data().values, stairs.get_data().edges
    np.testing.assert_allclose(heights, np.histogram(cells[:, 1], edges)[0] / len(cells))
    assert data_picture(found.schema, rows, ("bernoulli", "gaussian")).width > 500


def test_steps_of_a_scale_are_in_their_order():
    grade = RNG.choice([1, 2, 3, 4, 12], N, p=[0.1, 0.5, 0.05, 0.05, 0.3])
    found, rows = of(pyarrow.table({"grade": grade, "size": RNG.normal(size=N)}))
    panels, _ = table_panels(found.schema, found.schema.to_stored(rows.batch(slice(None)).double().numpy()))
    assert [text.get_text() for text in drawn(panels[0]).get_yticklabels()] == ["1", "2", "3", "4", "12"]
    tops = [bar.get_y() for bar in drawn(panels[0]).patches]
    assert tops == sorted(tops)


@pytest.mark.parametrize(
    ("value", "said"),
    [(4e18, "4e18"), (2.5e12, "2.5T"), (-3e10, "-30G"), (12_000, "12k"), (2e-7, "2e-7"), (0.25, "0.25")],
)
def test_ticks_are_short(value, said):
    assert compact(value) == said


def test_of_many_counts_rows_and_columns_are_summed_up():
    counts = RNG.poisson(RNG.gamma(0.3, 2.0, 100), (N, 100))
    found, rows = of(counts, support="count")
    cells = rows.batch(slice(None)).numpy()
    panels, said = table_panels(found.schema, cells)
    total, row, column, mean, *single = panels
    assert total.note == f"count, median {np.median(cells.sum(1)):,.4g}"
    assert row.note == f"{(cells == 0).mean():.1%} of all cells are 0"
    assert "8 of them that vary the most" not in said or len(single) == 8
    assert {int(panel.title.split()[-1]) for panel in single} == set(cells.var(0).argsort()[-8:].tolist())
    for panel, values in ((total, cells.sum(1)), (row, (cells > 0).mean(1)), (column, (cells > 0).mean(0))):
        (stairs,) = drawn(panel).patches
        heights, edges = stairs.get_data().values, stairs.get_data().edges
        np.testing.assert_allclose(heights, np.histogram(values, edges)[0] / len(values))
    assert mean.title == "mean of a column"


def test_of_very_many_columns_the_picture_is_no_larger():
    values = {f"{'very ' * 30}long name {at}": RNG.normal(size=20) for at in range(990)}
    kinds = {f"k{at}": RNG.choice(["a", "b"], 20) for at in range(10)}
    found, rows = of(pyarrow.table(kinds | values))
    panels, said = table_panels(found.schema, found.schema.to_stored(rows.batch(slice(None)).double().numpy()))
    assert len(panels) == MOST_PANELS
    assert f"of 1,000 columns, the first {MOST_PANELS};" in said


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((8, 6), {"layout": "image", "support": "levels", "levels": 256}),
        ((5, 8, 6), {"layout": "image", "support": "levels", "levels": 256}),
        ((8, 6, 3), {"layout": "image", "support": "levels", "levels": 256}),
    ],
)
def test_of_images_it_has_examples(shape, settings):
    found, rows = of(RNG.integers(0, 256, (100, *shape)).astype(np.uint8), **settings)
    picture = data_picture(found.schema, rows)
    examples = image_grid(to_unit(rows.batch(slice(0, 64)).numpy(), found.schema))
    assert np.array_equal(np.asarray(picture)[: examples.height], np.asarray(examples.convert("RGB")))


@pytest.mark.parametrize(("shape", "layout"), [((12, 3), "sequence"), ((4, 6, 6), "volume"), ((6, 6, 6, 2), "volume")])
def test_of_sequences_lines_and_of_volumes_a_slice(shape, layout):
    found, rows = of(RNG.normal(size=(50, *shape)), layout=layout)
    picture = data_picture(found.schema, rows)
    assert isinstance(picture, Image.Image)
    assert len(np.unique(np.asarray(picture))) > 20
