"""The names, units and explanations of measures are complete, and need no torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import vaekit
from vaekit.evaluation.results import BITS, MEASURES, NATS, NOT_A_LIKELIHOOD, measure_of, title_of, unit_of

SOURCE = Path(vaekit.__file__).parent
HOME = SOURCE / "evaluation" / "results.py"


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


def written(path: Path) -> Iterator[str]:
    """The texts in a file of code, without its docstrings."""
    tree = ast.parse(path.read_text())
    statements = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in statements:
            yield node.value


def repeated(texts: list[str]) -> list[str]:
    """Labels, definitions, explanations and units among some texts, which belong to the table of measures alone.

    A word is one of them where it stands alone, several words also within a text. A label that is the measure's name in
    JSON is no sign of a second table, and a formula none either.
    """
    whole = {NATS, BITS, NOT_A_LIKELIHOOD, "soft-label cross-entropy"}
    for name, measure in MEASURES.items():
        whole |= {
            part.removesuffix("{}").removesuffix(", K = ").strip()
            for part in (measure.label, measure.definition, measure.about)
        } - {name}
    whole = {text for text in whole if text and not text.startswith("KL(")}
    return [one for one in whole for text in texts if one == text or (len(one.split(" ")) > 1 and one in text)]


@pytest.mark.parametrize("path", sorted({*SOURCE.rglob("*.py")} - {HOME}), ids=lambda path: path.stem)
def test_labels_units_and_explanations_are_written_once(path):
    assert not repeated(list(written(path)))


def test_a_label_that_is_written_again_is_found(tmp_path):
    assert not repeated(["the rate", "elbo", "the ELBO of rows"])
    for text in ("ELBO", "nats", "the importance-weighted bound of rows", "effective samples"):
        assert repeated([text])
    (tmp_path / "other.py").write_text('"""KID"""\nlabel = f"{1} active units, by KL"\n')
    assert repeated(list(written(tmp_path / "other.py"))) == ["active units, by KL"]


def test_names_and_units_need_no_torch():
    check = "import sys, vaekit.evaluation.results; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
