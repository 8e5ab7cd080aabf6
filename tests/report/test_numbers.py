"""Numbers as text, and when they may be ranked."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vaekit.evaluation import Estimate
from vaekit.report.collect import RunFacts, collect
from vaekit.report.curves import typical_range
from vaekit.report.numbers import brief, estimates_table, headline, split_warning, texts, why_not_comparable
from vaekit.report.page import label_apart
from vaekit.runs import open_run


@pytest.fixture(scope="module")
def facts(digits: Path) -> RunFacts:
    return collect(open_run(digits), samples=4)


@pytest.fixture(scope="module")
def soft_facts(soft: Path) -> RunFacts:
    return collect(open_run(soft), samples=4)


def test_rows_are_limited_and_said(digits: Path) -> None:
    held_out = collect(open_run(digits), samples=2, rows=20).held_out
    assert held_out is not None
    assert (held_out.rows, held_out.of) == (20, 180)
    assert all(estimate.n == 20 for estimate in held_out.estimates.values())


def test_means_and_draws_come_from_the_same_z(facts: RunFacts) -> None:
    means, draws = facts.prior_means, facts.prior_draws
    assert means.shape == draws.shape
    error = np.abs(means - draws).mean()
    assert error < np.abs(np.roll(means, 1, axis=0) - draws).mean()


def test_a_warning_has_a_gist() -> None:
    warning = "no likelihood: it is no density; 9 of 10 rows are few: loose there; use more"
    assert split_warning(warning) == ["no likelihood: it is no density", "9 of 10 rows are few: loose there; use more"]
    assert brief(warning) == "no likelihood; 9 of 10 rows are few"
    assert brief("") == ""


def test_numbers_read_well() -> None:
    assert texts(Estimate(-92.134, 0.41, 180, "nats")) == ("\N{MINUS SIGN}92.13", "0.41")
    assert texts(Estimate(15.0, 0.0001, 180, "of 16 dimensions")) == ("15", "")
    assert texts(Estimate(None, 0.0, 180, "bits/dim", "why")) == ("not defined", "")


def test_runs_are_comparable_only_on_the_same_rows_and_scale(facts: RunFacts, soft_facts: RunFacts) -> None:
    schema = facts.schema
    assert why_not_comparable([facts, facts]) == ""
    assert "different data" in why_not_comparable([facts, replace(facts, schema=replace(schema, fingerprint="other"))])
    assert "split" in why_not_comparable([facts, replace(facts, schema=replace(schema, protocol="other"))])
    assert "not a log-likelihood" in why_not_comparable([facts, soft_facts])


def test_a_best_value_is_marked_only_where_it_leads_clearly(facts: RunFacts) -> None:
    assert facts.held_out is not None

    def shifted(by: float, label: str, fingerprint: str = facts.schema.fingerprint) -> RunFacts:
        estimates = dict(facts.held_out.estimates)
        value = estimates["elbo"].value
        estimates["elbo"] = replace(estimates["elbo"], value=value + by)
        schema = replace(facts.schema, fingerprint=fingerprint)
        return replace(facts, label=label, schema=schema, held_out=replace(facts.held_out, estimates=estimates))

    def strong(*runs: RunFacts) -> list[bool]:
        table = estimates_table(runs)
        assert table is not None
        return [cell.strong for row in table.rows for cell in row[1:] if row[0].text == "ELBO"]

    assert strong(shifted(0, "a"), shifted(50, "b")) == [False, True]
    assert strong(shifted(0, "a"), shifted(0.01, "b")) == [False, False]
    assert strong(shifted(0, "a"), shifted(50, "b", "other")) == [False, False]


def test_a_score_is_called_none_of_a_likelihood(soft_facts: RunFacts) -> None:
    for cards in (headline([soft_facts]), headline([soft_facts, replace(soft_facts, label="other")])):
        assert all("not a log-likelihood" in card.remark for card in cards if card.unit == "nats")
    table = estimates_table([soft_facts])
    assert table is not None
    names = {row[0].text: row for row in table.rows}
    assert "log-likelihood" not in names
    for name in ("importance-weighted bound", "ELBO", "distortion", "baseline", "bits per dimension"):
        assert "not a log-likelihood" in names[name][1].remark


def test_labels_tell_runs_apart(facts: RunFacts) -> None:
    elsewhere = replace(facts, folder=Path("elsewhere"))
    labels = [f.label for f in label_apart([facts, elsewhere, elsewhere, replace(facts, label="b")])]
    assert labels == ["digits (digits)", "digits (elsewhere) #2", "digits (elsewhere) #3", "b"]


def test_the_range_of_curves_bears_a_wild_start_and_a_run_that_diverges() -> None:
    calm = 100 + 50 * np.exp(-np.arange(50) / 10)
    wild = calm.copy()
    wild[0] = 1e6
    low, high = typical_range([wild])
    assert low < 101 < 125 < high < 500
    low, high = typical_range([calm, np.full(50, 1e7)])
    assert low < 101 < 150 < high < 1000
    assert typical_range([calm])[1] > 150, "all is shown where nothing is wild"
    assert typical_range([np.full(3, np.nan)]) == (0, 1)
    low, high = typical_range([np.array([5.0])])
    assert low < 5 < high
