"""What a history shows to be wrong: each finding from a history made for it, and none from a sound one."""

import pytest

from vaekit.errors import ModelFileError
from vaekit.findings import Finding, as_json, has_errors
from vaekit.training import RunFolder, Train
from vaekit.training.diagnosis import TrainingFacts, findings, learning_rate


def history(losses: list[float], baseline: float | None = 100.0, steps: int = 1000, **more: float) -> list[dict]:
    """An epoch for each validation loss, of which a tenth is rate."""
    return [
        {
            "epoch": i + 1,
            "step": (i + 1) * steps,
            "train_elbo": -loss,
            "valid_elbo": -loss,
            "valid_rate": loss / 10,
            **({} if baseline is None else {"valid_baseline": -baseline}),
            **more,
        }
        for i, loss in enumerate(losses)
    ]


SOUND = [95.0, 85.0, 81.0, 80.0, 79.5, 79.3, 79.2, 79.15, 79.1, 79.1, 79.1]


def found(
    lines: list[dict], over: bool = True, rising: float = 0, early: bool = False, **settings
) -> dict[str, Finding]:
    about = TrainingFacts(Train(**settings), values=10, rising=rising, over=over, stopped_early=early)
    return {one.id: one for one in findings(lines, about)}


def test_a_sound_run_has_none() -> None:
    assert found(history(SOUND)) == {}
    assert found(history(SOUND, baseline=None)) == {}
    assert found([]) == {}


def test_worse_than_the_baseline_is_an_error_once_training_is_over() -> None:
    losses = [104.0, 102.0, 101.0]
    assert found(history(losses), over=False) == {}
    one = found(history(losses))["worse_than_baseline"]
    assert (one.severity, one.value, one.threshold) == ("error", 1.0, 0.0)
    assert "1 nats above" in one.why
    assert found(history([99.0, 104.0]), weights="best").keys() == set()
    assert "worse_than_baseline" in found(history([99.0, 104.0]), weights="last")


@pytest.mark.parametrize(
    ("loss", "rows", "severity"),
    [
        (100.0, 60, None),
        (100.008, 60, "warning"),
        (100.1, 60, "warning"),
        (100.2, 60, "error"),
        (100.1, 600, "error"),
        (101.0, 3, "warning"),
    ],
)
def test_how_far_above_the_baseline_is_clear_depends_on_the_validation_rows(loss, rows, severity) -> None:
    about = TrainingFacts(Train(), values=10, over=True, valid_rows=rows)
    there = {one.id: one for one in findings(history([loss]), about)}.get("worse_than_baseline")
    assert severity == (None if there is None else there.severity)
    assert there is None or (there.severity == "warning") == ("do not depend on one another" in there.fix)


@pytest.mark.parametrize(
    ("lr", "steps", "fix"),
    [
        (0.1, 1000, "Train.lr=0.001"),
        (0.005, 1000, "Train.lr=0.0005"),
        (0.001, 5, "Train.epochs=200"),
        (1e-9, 5, "Train.lr=0.001"),
        (1e-9, 1000, "Train.lr=0.001"),
    ],
)
def test_what_is_worse_than_the_baseline_trains_at_another_pace_or_for_longer(lr: float, steps: int, fix: str) -> None:
    assert found(history([104.0], steps=steps), lr=lr)["worse_than_baseline"].fix == fix


def test_an_explosion_is_found_as_soon_as_it_is_there_even_if_it_passes() -> None:
    losses = [90.0, 17_000.0, 80.0, 79.0, 79.0]
    one = found(history(losses[:2]), over=False)["exploded"]
    assert (one.severity, one.value) == ("error", 16_900.0)
    assert one == found(history(losses))["exploded"]


def test_an_explosion_in_training_alone_is_found() -> None:
    lines = history(SOUND)
    lines[3]["train_elbo"] = -5000.0
    assert "epoch 4" in found(lines)["exploded"].why


def test_the_mean_over_a_first_epoch_that_began_untrained_is_no_explosion() -> None:
    lines = history(SOUND)
    lines[0]["train_elbo"] = -540.0
    assert found(lines) == {}


def test_an_importance_weighted_training_is_judged_by_its_bound() -> None:
    """The bound of several samples may rise while the ELBO of one, beside it, falls far below the baseline."""
    lines = history([4.6, 4.1, 3.1, 2.8], baseline=4.3)
    for line, elbo in zip(lines, [4.5, 4.2, 9.6, 8.6], strict=True):
        line |= {"train_bound": line["train_elbo"], "valid_bound": line["valid_elbo"]}
        line |= {"train_elbo": -elbo, "valid_elbo": -elbo - 0.2}
    assert "exploded" not in found(lines)
    lines[2]["train_bound"] = -40.0
    assert "exploded" in found(lines)


def test_while_the_weight_of_the_kl_rises_the_loss_may_be_higher() -> None:
    losses = [260.0, 120.0, 90.0, 80.0, 79.0, 79.0]
    assert "exploded" in found(history(losses))
    assert "exploded" not in found(history(losses), rising=1500)
    assert "exploded" in found(history([700.0, *losses]), rising=1500)


def test_a_rate_of_nearly_nothing_is_a_collapse_unless_the_posterior_has_none() -> None:
    lines = [{**line, "valid_rate": 0.02} for line in history([99.9, 99.8, 99.8, 99.8])]
    assert found(lines)["posterior_collapse"].severity == "warning"
    assert "posterior_collapse" not in found([{**line, "valid_rate": 0.0} for line in lines])


def test_a_loss_that_still_falls_asks_for_more_epochs() -> None:
    losses = [100.0 - i for i in range(20)]
    one = found(history(losses))["still_improving"]
    assert (one.severity, one.fix) == ("warning", "Train.epochs=40")
    assert one.value == 2.0
    assert found(history(losses), early=True) == {}


def test_steps_that_are_mostly_skipped_are_an_error() -> None:
    assert found(history(SOUND, skipped=6000), skip_above=5)["steps_skipped"].severity == "error"
    assert found(history(SOUND, skipped=5000), skip_above=5) == {}


def test_an_absurd_learning_rate_is_named_beforehand() -> None:
    assert learning_rate(Train(lr=0.01)) is None
    one = learning_rate(Train(lr=10))
    assert one is not None
    assert one.fix == "Train.lr=0.001"


def test_findings_survive_their_file_and_nothing_else_is_taken_for_one(tmp_path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.findings() == ()
    several = tuple(found(history([104.0, 1e9])).values())
    assert len(several) == 2
    folder.keep_findings(several)
    assert folder.findings() == several
    assert has_errors(several)
    assert not has_errors(())
    whole = as_json(several)[0]
    for wrong in ({}, None, [1], [{**whole, "severity": "fatal"}], [{**whole, "more": 1}], [{**whole, "value": "1"}]):
        folder.write_json("findings.json", {"findings": wrong})
        with pytest.raises(ModelFileError, match=r"findings\.json is damaged"):
            folder.findings()
