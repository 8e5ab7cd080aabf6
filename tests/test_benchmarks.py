"""The benchmarks measure what they say."""

import math
import sys
from pathlib import Path

import pytest
import torch

from vaekit.evaluation import Estimate
from vaekit.models import VAE, Bernoulli, Conditional, Gaussian, Mlp, Standard
from vaekit.objectives import Score

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

import ablation_evidence
import quality
import routes


@pytest.mark.needs_data
def test_both_ways_of_a_step_have_the_same_gradients():
    setting = routes.Setting(16)
    routes.check(routes.program(setting)(), routes.autograd(setting)())


def test_the_running_baseline_is_settled_before_noise_is_measured():
    torch.manual_seed(0)
    posterior = Conditional(Mlp((16,)).build((64,), 4), Gaussian())
    model = VAE(posterior, Standard().build(2), Conditional(Mlp((16,)).build((2,), 64), Bernoulli()))
    x = torch.rand(20, 64).round()

    def noise(gradient: Score) -> float:
        return torch.stack(list(ablation_evidence.gradients(model, x, gradient, 100, 0, 0))).var(0).sum().item()

    assert noise(Score()) < 0.2 * noise(Score(baseline=False))


def test_many_samples_are_for_the_seed_that_is_worst_with_few(monkeypatch, tmp_path):
    def measured(promise, seed, runs, samples, half):
        value = {0: -84.0, 1: -84.5, 2: -83.0}[seed] + math.log10(samples)
        numbers = {name: Estimate(value, 0.1, 10, "nats") for name in quality.COLUMNS}
        made = {"epochs": 1, "steps": 10, "best_epoch": 1, "training": 5.0, "evaluation": 1.0}
        return quality.Measured(
            seed, samples, half, numbers, Estimate(-200.0, 0.1, 10, "nats"), **made, protocol="", trained_in="fp32"
        )

    monkeypatch.setattr(quality, "measure", measured)
    promise = quality.Promise("mnist-10m", 1000, (0, 1, 2), log_likelihood=-81.4, worst_at=10)
    runs = quality.measure_all(promise, promise.seeds, tmp_path, half=True)
    assert [(run.seed, run.samples, run.half) for run in runs] == [
        (0, 10, False),
        (1, 10, False),
        (2, 10, False),
        (1, 10, True),
        (1, 1000, True),
    ]
    text, passed = quality.part(promise, runs)
    assert not passed
    assert "-81.50 nats" in text
    assert "**FAIL**" in text
