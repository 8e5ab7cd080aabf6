"""The names, units and explanations of measures are complete, and need no torch."""

import subprocess
import sys

import pytest

from vaekit.evaluation.results import MEASURES, measure_of, title_of, unit_of


def test_no_two_measures_have_the_same_title():
    titles = [measure.title for name, measure in MEASURES.items() if not name.endswith("_time")]
    assert len(set(titles)) == len(titles)


@pytest.mark.parametrize("name", MEASURES)
def test_each_measure_has_a_unit_and_an_explanation(name):
    assert MEASURES[name].unit
    assert MEASURES[name].about


def test_a_number_at_the_end_of_a_name_is_in_the_label():
    assert measure_of("effective_samples_of_64").label == "effective samples, K = 64"
    assert measure_of("kl_group_2").label == "KL of group 2"
    assert title_of("prior.kid") == "KID"
    assert unit_of("effective_samples_of_64", 64) == "of 64"


def test_names_and_units_need_no_torch():
    check = "import sys, vaekit.evaluation.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
