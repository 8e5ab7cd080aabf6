"""Reports of many counts: all columns together, and the largest ones by themselves."""

import re

import numpy as np
import pytest
from scipy import sparse

from vaekit.report import write_report
from vaekit.report.counts import mean_and_variance, zeros_and_totals
from vaekit.runs import TrainingRun, run

GENES = 90


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    rates = np.full(GENES, 0.2)
    rates[[70, 71]] = 40, 30
    above = tmp_path_factory.mktemp("counts")
    sparse.save_npz(above / "counts.npz", sparse.csr_array(rng.poisson(rates, (120, GENES)).astype(np.float32)))
    words = ["epochs=1", "encoder.widths=4", "decoder.widths=4", "latent=2", "likelihood=poisson"]
    for _ in TrainingRun.start(run(str(above / "counts.npz"), *words, run_dir=above / "run")).events():
        pass
    return above / "run"


def test_a_report_of_many_counts_shows_all_columns_and_the_largest(folder, tmp_path):
    page = write_report([folder], tmp_path / "report.html", samples=2).read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    assert sum(f"the 12 with the largest means of {GENES} columns" in caption for caption in captions) == 2
    assert sum("each point is a column" in caption for caption in captions) == 1
    assert sum("on the dashed line samples have as many zeros" in caption for caption in captions) == 1
    heads = re.findall(r'<th scope="row">(.*?)</th>', page)
    assert heads.index("column 70") < heads.index("column 71")
    assert heads.index("column 71") < min(heads.index(name) for name in heads if re.fullmatch(r"column \d", name))


def test_pictures_of_counts_show_what_differs():
    rng = np.random.default_rng(1)
    one, alike, other = (rng.poisson(rate, (200, GENES)) for rate in (0.5, 0.5, 3.0))
    for draw in (mean_and_variance, zeros_and_totals):
        pictures = [np.asarray(draw(one, samples), int) for samples in (one, alike, other)]
        assert pictures[0].shape == pictures[1].shape
        assert (pictures[0] != pictures[2]).mean() > (pictures[0] != pictures[1]).mean() > 0
