"""Words that are gone: the code, its help texts and its pages use the field's terms in their place."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GONE = {  # what is not written, and what is written in its place
    r"\btold\b|\btelling\b": "context, conditioning; a notice",
    r"\basked\b": "requested, named",
    r"\bshel(f|ves)\b|\bsurveys?\b|\bturn(?=\.(train|valid|test|source)\b|: [A-Z])": "chunk cache, scan, preprocessor",
    r"\bkeepers?\b|\bjobs?\b(?!\.(?:md|py))|\bopened(?=\.[a-z]|: [A-Z]| = )": "run writer, training run, trained run",
    r"(?<![-/])\bladders?\b(?!-)|\brungs?\b": "hierarchical VAE, latent block",
    r"\b[Oo]pponents?\b|opponent_": "discriminator",
    r"\bis_point\b|kind: point\b|\"point\"|kind: standard\b": "deterministic, standard_normal",
    r"\bgradient\.(path|every)\b|\bwhy_not\(path\b(?=, score)": "reparametrised, score, enumerate",
    r"\bstart(s)?_from\b": "initialise_from",
    r"\bvaekit\.apps\b|\bapps/": "vaekit.cli",
    r"\bstrangers?\b|\bhand(s|ed|ing)? (it |them )?(on|over)\b|\bfor want of\b": "unknown, pass on, without",
    r"\bdoors?\b|\bhouses?\b(?! style)|\binhabit\w*|\brooms\b|\b[Aa] room\b": "module, package",
}
IN_MOVES_OF_Z = {r"\bchances?\b|\bplaces?\b": "acceptance probability, state"}
MOVES_OF_Z = ("evaluation/hmc.py", "evaluation/annealing.py", "models/distributions/hamiltonian.py")

PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING")),
]
CODE = [
    path for path in sorted((ROOT / "src" / "vaekit").rglob("*")) if path.suffix in (".py", ".yaml", ".jinja", ".pyi")
]


def found(text: str, gone: dict[str, str]) -> list[str]:
    """The lines of a text with a word that is gone, and what to write."""
    lines = enumerate(text.splitlines(), 1)
    return [f"{n}: {line.strip()} ({fit})" for n, line in lines for word, fit in gone.items() if re.search(word, line)]


@pytest.mark.parametrize("path", [*CODE, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_words_that_are_gone_stay_away(path: Path) -> None:
    name = str(path.relative_to(ROOT)).removeprefix("src/vaekit/")
    words = GONE | IN_MOVES_OF_Z if name in MOVES_OF_Z else GONE
    text = path.read_text()
    if name == "setting_errors.py":  # its table of other names is what it answers with the right ones
        text = re.sub(r"^_KINDS = \{.*?^\}$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert not found(text, words)


def test_ordinary_english_may_stay() -> None:
    ordinary = (
        "the chance level; zip(*parts); in turn; a point in space; the standard error; opened in a browser; gather"
    )
    assert not found(ordinary, GONE)
    for word in ("is told", "asked for", "the shelf", "a job", "a ladder", "the opponent", "handed on", "two rooms"):
        assert len(found(word, GONE)) == 1
