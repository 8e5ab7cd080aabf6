"""What used to explode, and how it is seen that it no longer does; `benchmarks/stability.py` tries far more."""

import pytest

from vaekit.runs import make_run, override, preset, train


@pytest.mark.needs_data
def test_two_latents_do_not_explode_in_a_warm_up_of_87_steps() -> None:
    # before the score was put back where q is narrow: a rate of 745 nats, and a loss of 946
    settings = ["model.latent=2", "train.epochs=1", "limit.valid=1000", "train.precision=fp32"]
    metrics = [event.metrics for event in train(make_run(override(preset("mnist"), settings))) if event.kind == "epoch"]
    assert metrics[-1]["train_rate"] < 20
    assert metrics[-1]["valid_elbo"] > -175  # the best without z is at -206
