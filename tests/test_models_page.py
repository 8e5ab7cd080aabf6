"""docs/models.md names every part, every preset, and every model that pythae has."""

import re
import sys
from pathlib import Path

import pytest

from unions import examples, name
from vaekit.models import Groups, Likelihood, Network, Posterior, Prior
from vaekit.objectives import Gradient, Objective, Regulariser, Schedule
from vaekit.runs import presets
from vaekit.samplers import Sampler
from vaekit.schedules import Changing

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "models.md").read_text()
NUMBER = r"-?\d+\.\d+"

PARTS = {
    "model.posterior": Posterior,
    "model.prior": Prior,
    "model.likelihood": Likelihood,
    "model.encoder": Network,
    "model.groups": Groups,
    "objective": Objective,
    "objective.penalties": Regulariser,
    "objective.gradient": Gradient,
    "train.schedule": Schedule,
    "vaekit sample --from": Sampler,
}
PYTHAE_MODELS = """
    AE VAE BetaVAE DisentangledBetaVAE BetaTCVAE FactorVAE IWAE MIWAE PIWAE CIWAE VAE_LinNF VAE_IAF VAMP SVAE
    PoincareVAE HVAE RHVAE INFOVAE_MMD MSSSIM_VAE VAEGAN Adversarial_AE WAE_MMD RAE_GP RAE_L2 VQVAE HRQVAE
"""
PYTHAE_SAMPLERS = """
    NormalSampler GaussianMixtureSampler TwoStageVAESampler MAFSampler IAFSampler VAMPSampler RHVAESampler
    HypersphereUniformSampler PoincareDiskSampler PixelCNNSampler
"""


def rows() -> list[list[str]]:
    """The cells of every line of every table."""
    lines = [line for line in PAGE.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def of_presets() -> dict[str, list[str]]:
    """The rows of the tables of papers and of our own settings, by the presets that they name."""
    papers = {preset: row for row in rows() if len(row) == 5 for preset in quoted(row[1])}
    return papers | {preset: row for row in rows() if len(row) == 3 for preset in quoted(row[0])}


def test_the_page_lists_the_presets_that_there_are():
    assert set(of_presets()) == set(presets())


@pytest.mark.parametrize("path", PARTS)
def test_the_page_lists_every_choice_of_a_part(path: str):
    listed = {word for row in rows() if path in quoted(row[0]) for word in quoted(row[1])}
    assert {name(choice) for choice in examples(PARTS[path])} <= listed
    if path == "objective":
        assert {name(choice) for choice in examples(Changing)} <= listed


def test_the_tables_of_what_goes_with_what_are_those_of_the_code():
    sys.path.insert(0, str(DOCS.parent / "benchmarks"))
    import compatibility

    assert compatibility.text() in PAGE, "run python benchmarks/compatibility.py --write"


def test_every_model_and_sampler_of_pythae_stands_there_once():
    models, samplers = PYTHAE_MODELS.split(), PYTHAE_SAMPLERS.split()
    assert (len(models), len(samplers)) == (26, 10)
    in_italics = re.findall(r"(?<![*\w])\*(\w+)\*(?![*\w])", PAGE)
    assert sorted(in_italics) == sorted(models + samplers)


def test_a_model_that_is_not_offered_says_why():
    missing = [row for row in rows() if "not offered" in " ".join(row)]
    assert len(missing) == 6
    for row in missing:
        assert len(" ".join(row[1:])) > len("not offered") + 10, row


@pytest.mark.parametrize("preset", sorted(presets()))
def test_the_number_that_a_preset_must_reproduce_is_the_one_on_the_page(preset: str):
    _, found, text = presets()[preset].get("about", "").partition("Published: ")
    if found:
        published = re.match(NUMBER, text)
        assert published is not None
        assert published.group() in of_presets()[preset][3]


def test_our_numbers_on_the_page_are_those_that_were_measured():
    ours = [number for row in of_presets().values() for number in re.findall(f"{NUMBER} ± {NUMBER}", row[-1])]
    assert len(ours) >= 2
    for number in ours:
        assert number in (DOCS / "quality.md").read_text()
