"""Which parts of a model go together, as the tables of docs/models.md: python benchmarks/compatibility.py [--write].

They are made of `vaekit.models.compatibility`, so that the page says what settings are checked by.
"""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from facts import table
from vaekit.data.schema import Binary, Count, Levels, Real, Support, Unit
from vaekit.models import Deterministic, Likelihood, Posterior, Prior
from vaekit.models.compatibility import (
    GradientRow,
    LikelihoodRow,
    ModelRow,
    PosteriorRow,
    PriorRow,
    Row,
    go_together,
    gradient_row,
    likelihood_row,
    objective_row,
    penalty_row,
    posterior_row,
    prior_row,
    sampler_row,
)
from vaekit.objectives import Gradient, Objective, Regulariser, phases_of
from vaekit.runs.defaults import MOST_LEVELS, default_likelihood
from vaekit.samplers import FittedSampler, Sampler
from vaekit.setting_errors import members_of

PAGE = Path(__file__).parent.parent / "docs" / "models.md"
BEGIN, END = "<!-- by benchmarks/compatibility.py -->", "<!-- end of compatibility -->"
SUPPORTS: dict[str, Support] = {
    "binary": Binary(),
    f"up to {MOST_LEVELS} levels": Levels(MOST_LEVELS),
    "more levels": Levels(MOST_LEVELS + 1),
    "[0, 1]": Unit(),
    "real": Real(),
    "counts": Count(),
}
Z = {"real": "real", "sphere": "unit sphere", "discrete": "discrete"}


def posteriors() -> list[tuple[str, PosteriorRow]]:
    """The name and the properties of each posterior, and of those with a temperature once more with one."""
    found = []
    for family in _ours(Posterior):
        found += [(f"`{family.kind}`", posterior_row(family()))]
        if hasattr(family, "temperature"):
            found += [(f"`{family.kind}`, relaxed", posterior_row(family(temperature=0.5)))]
    return found


def text() -> str:
    """The tables."""
    priors = [prior_row(prior()) for prior in _ours(Prior)]
    gradients = [gradient_row(choice()) for choice in _ours(Gradient)]
    of_posteriors = [
        (
            label,
            Z[row.z],
            _code(prior.kind for prior in priors if go_together(prior=prior, posterior=row)),
            _code(one.kind for one in gradients if go_together(gradient=one, posterior=row)),
            _code(row.closed_kl_to),
            "yes" if go_together(refine=Row("hamiltonian"), posterior=row) else "no",
        )
        for label, row in posteriors()
    ]
    head = ("posterior", "z", "priors", "objective.gradient", "KL in closed form to", "refine")
    likelihoods = [(likelihood.kind, likelihood_row(likelihood)) for likelihood in map(_example, _ours(Likelihood))]
    of_likelihoods = [
        (f"`{kind}`", ", ".join(row.accepts), "yes" if row.integers else "no", _missing_cells(row), _default_for(kind))
        for kind, row in likelihoods
    ]
    objectives = [_of_objective(choice(), gradients) for choice in _ours(Objective)]
    penalties = [_of_penalty(choice(), gradients) for choice in _ours(Regulariser)]
    tables = (
        table(head, of_posteriors),
        table(("prior", "over z", "made of q(z\\|x)", "depends on a context"), map(_of_prior, priors)),
        table(("objective", "deterministic posterior", "hierarchical VAE", "refine", "objective.gradient"), objectives),
        table(("penalty", "posteriors", "objective.gradient", "a discriminator"), penalties),
        table(("sampler", "over z", "is fitted", "takes a context"), map(_of_sampler, _ours(Sampler))),
        table(("likelihood", "values of x", "whole numbers", "missing cells", "default for"), of_likelihoods),
    )
    return "\n\n".join(part.strip() for part in tables)


def _ours(union: Any) -> list[Any]:
    """The members of a union without those that were registered from outside."""
    return [member for member in members_of(union) if member.__module__.startswith("vaekit.")]


def _of_prior(row: PriorRow) -> tuple[str, ...]:
    yes_no = ("yes" if holds else "no" for holds in (row.needs_density, row.is_conditional))
    return (f"`{row.kind}`", ", ".join(Z[z] for z in row.over), *yes_no)


def _of_objective(objective: Any, gradients: list[GradientRow]) -> tuple[str, ...]:
    """Whether an objective, in all its phases, goes with what not all of them go with."""
    refine, several = Row("hamiltonian"), ModelRow("hierarchical", several_groups=True)
    others: list[dict[str, Any]] = [
        {"posterior": posterior_row(Deterministic())},
        {"model": several},
        {"refine": refine},
    ]
    phases = [objective_row(phase) for phase in phases_of(objective)]
    yes_no = ["yes" if all(go_together(objective=row, **other) for row in phases) else "no" for other in others]
    of_phases = [one.kind for one in gradients if all(go_together(objective=row, gradient=one) for row in phases)]
    return f"`{objective.kind}`", *yes_no, "all" if len(of_phases) == len(gradients) else _code(of_phases)


def _of_penalty(penalty: Any, gradients: list[GradientRow]) -> tuple[str, ...]:
    """With what a penalty goes: the posteriors and the gradient estimators; and whether it has a discriminator."""
    row, of_posteriors = penalty_row(penalty), [row for _, row in posteriors()]
    known = [one.kind for one in of_posteriors if go_together(penalty=row, posterior=one)]
    through_z = [one.kind for one in gradients if go_together(penalty=row, gradient=one)]
    critic = "no" if getattr(penalty, "critic", None) is None else "yes"
    return f"`{row.kind}`", "all" if len(known) == len(of_posteriors) else _code(known), _code(through_z), critic


def _of_sampler(sampler: Any) -> tuple[str, ...]:
    row, fitted = sampler_row(sampler()), isinstance(sampler(), FittedSampler)
    takes_context = go_together(sampler=row, context=Row("label"))
    return (
        f"`{row.kind}`",
        ", ".join(Z[z] for z in row.over),
        "yes" if fitted else "no",
        "yes" if takes_context else "no",
    )


def _missing_cells(row: LikelihoodRow) -> str:
    if row.ties_cells:
        return "no"
    return "but for colours" if row.ties_colours else "yes"


def _default_for(kind: str) -> str:
    found = [name for name, support in SUPPORTS.items() if default_likelihood(support, "table").kind == kind]
    return ", ".join(found) or "none"


def _example(family: Any) -> Any:
    try:
        return family()
    except ValueError:
        return family(levels=2)


def _code(kinds: Iterable[str]) -> str:
    return ", ".join(f"`{kind}`" for kind in kinds) or "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the tables into docs/models.md")
    tables = text()
    print(tables)
    if parser.parse_args().write:
        head, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n\n{tables}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
