"""Reports of sequences: lines over steps, in the units of the data."""

import re

import numpy as np
import pytest

from vaekit.report import write_report
from vaekit.report.lines import reconstructed_lines, sampled_lines
from vaekit.runs import open_run, reopen

STEPS, CHANNELS = 8, 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory, train_convolved):
    rng = np.random.default_rng(0)
    waves = np.sin(np.arange(STEPS)[:, None] / 2 + rng.uniform(0, 6, (120, 1, CHANNELS)))
    above = tmp_path_factory.mktemp("sequences")
    np.save(above / "waves.npy", 1000 + 10 * waves)
    return train_convolved(above / "waves.npy", "layout=sequence")


def test_a_report_of_sequences_shows_lines_and_says_which_channels(folder, tmp_path):
    page = write_report([folder], tmp_path / "report.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.DOTALL)
    said = [caption for caption in captions if "the first 9 of 11 channels" in caption]
    assert len(said) == 2
    assert "dashed their reconstructions" in said[0]
    assert "draws of p(x|z), z from the prior" in said[1]


def test_pictures_of_sequences_show_their_rows(folder):
    trained = open_run(folder)
    x = trained.schema.to_stored(reopen(trained).valid.batch(slice(0, 4)).numpy())
    assert x.shape == (4, CHANNELS, STEPS)
    assert abs(x.mean() - 1000) < 5
    same, others = reconstructed_lines(x, x), reconstructed_lines(x, x + 3)
    assert same.size == others.size
    assert same.tobytes() != others.tobytes()
    assert sampled_lines(x).tobytes() != sampled_lines(x, x + 3).tobytes()
    assert sampled_lines(x[:, :1]).height < sampled_lines(x).height
