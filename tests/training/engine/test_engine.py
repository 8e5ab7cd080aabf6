"""However a step's gradients are computed, they are those of autograd."""

import math

import pytest
import torch
from few_batches import MLP, check_close, gradients, start
from torch import nn

from unions import members
from vaekit import kernels
from vaekit.models import VAE, Bernoulli, Conditional, Conv, Gaussian, ResNet, SpatialHierarchy, StandardNormal
from vaekit.models.building import BuildContext
from vaekit.models.networks.context import with_context
from vaekit.models.networks.convolutional import with_weights_channels_last
from vaekit.models.networks.units import Units
from vaekit.objectives import Elbo, Regulariser
from vaekit.processes import World
from vaekit.training import State, Step, Train
from vaekit.training.engine import Autograd, Programs
from vaekit.training.engine.programs import FIRST_TRACED
from vaekit.training.engine.simplifying import trace
from vaekit.training.noise import Noise, NoiseSource
from vaekit.training.step import StepInputs
from vaekit.training.updater import Updater

pytestmark = pytest.mark.usefixtures("one_thread")

CONV = [f"model.{part}={{kind: conv, channels: [4, 8], hidden: 16}}" for part in ("encoder", "decoder")]
DENSE = "model={kind: hierarchical, groups: {latent: [3, 2], widths: [8]}}"
SPATIAL = "model={kind: hierarchical, groups: {kind: spatial, latent: 3, channels: [4, 8], groups: [1, 1], hidden: 16}}"
PENALTIES = [kind.kind for kind in members(Regulariser)]
KINDS = {
    "categorical": MLP,
    "conv": CONV,
    "silu": [*MLP, "model.encoder.activation=silu", "model.decoder.activation=silu"],
    "bernoulli": [*MLP, "data.binarise=dynamic"],
    "soft bernoulli": [*MLP, "model.likelihood=soft_bernoulli"],
    "continuous bernoulli": [*MLP, "model.likelihood=continuous_bernoulli"],
    "calibrated gaussian": [*MLP, "model.likelihood=calibrated_gaussian"],
    "calibrated student t": [*MLP, "model.likelihood=calibrated_student_t"],
    "beta-binomial": [*MLP, "model.likelihood={kind: beta_binomial, levels: 17}"],
    "logistic mixture": [*MLP, "model.likelihood={kind: logistic_mixture, levels: 17, components: 2}"],
    "zero-inflated": [*MLP, "data.support=count", "model.likelihood=zero_inflated"],
    "stick the landing": [*MLP, "objective.gradient=stick_the_landing"],
    "score": [*MLP, "objective.gradient=score"],
    "score of four": [*MLP, "objective.gradient=score", "objective.samples=4"],
    "sampled": [*MLP, "objective.kl=sampled", "objective.samples=3"],
    "free nats": [*MLP, "objective.free_nats=1.5"],
    "iwae": [*MLP, "objective={kind: iwae, samples: 4, groups: 2}"],
    "iwae, double": [*MLP, "objective={kind: iwae, samples: 4, gradient: doubly_reparametrised, elbo_share: 0.3}"],
    "iwae, score": [*MLP, "objective={kind: iwae, samples: 4, gradient: score}"],
    "mixture prior": [*MLP, "model.prior={kind: mixture, components: 5}"],
    "vamp prior": [*MLP, "model.prior={kind: vamp, components: 5}"],
    "flow prior": [*MLP, "model.prior={kind: flow, hidden: [8]}"],
    "spline prior": [*MLP, "model.prior={kind: flow, flow: spline, hidden: [8]}"],
    "full gaussian": [*MLP, "model.posterior=full_gaussian"],
    "iaf": [*MLP, "model.posterior={kind: flow, hidden: [8], context: 6}"],
    "iaf, landing": [*MLP, "model.posterior={kind: flow, hidden: [8]}", "objective.gradient=stick_the_landing"],
    "coupling": [*MLP, "model.posterior={kind: flow, flow: coupling, hidden: [8]}", "objective.samples=2"],
    "sphere": [*MLP, "model.posterior=von_mises_fisher", "model.prior=uniform_sphere"],
    "sphere, landing": [
        *MLP,
        "model.posterior=power_spherical",
        "model.prior=uniform_sphere",
        "objective.gradient=stick_the_landing",
    ],
    "planar": [*MLP, "model.posterior={kind: planar, steps: 2}"],
    "radial": [*MLP, "model.posterior={kind: radial, steps: 2}"],
    "hamiltonian": [*MLP, "model.refine={kind: hamiltonian, steps: 2, temper: 0.4}"],
    "hamiltonian, iwae": [*MLP, "model.refine=hamiltonian", "objective={kind: iwae, samples: 3}"],
    "gated": [*MLP, "model.encoder.activation=gated"],
    "resnet": [f"model.{part}={{kind: resnet, channels: [4, 8], hidden: 16}}" for part in ("encoder", "decoder")],
    "labels": [*MLP, "data.context=label"],
    "labels, vamp": [*MLP, "data.context=label", "model.prior={kind: vamp, components: 5}"],
    "labels, conv": [*CONV, "data.context=label", "model.prior={kind: mixture, components: 5}"],
    "hierarchical": [DENSE],
    "hierarchical, vamp": [
        DENSE,
        "model.prior={kind: vamp, components: 5}",
        "objective.samples=2",
        "data.context=label",
    ],
    "hierarchical, landing": [DENSE, "objective.gradient=stick_the_landing", "objective.free_nats=0.5"],
    "hierarchical, iwae": [DENSE, "objective={kind: iwae, samples: 4}"],
    "hierarchical, double": [DENSE, "objective={kind: iwae, samples: 4, gradient: doubly_reparametrised}"],
    "spatial": [SPATIAL, "objective.samples=2"],
    "gumbel": [
        *MLP,
        "model.posterior={kind: categorical, classes: 3, temperature: {start: 1.0, end: 0.4, over: 0.02}}",
    ],
    "gumbel, straight": [*MLP, "model.posterior={kind: bernoulli, temperature: 0.5, straight_through: true}"],
    "vimco": [*MLP, "model.posterior=bernoulli", "objective={kind: iwae, samples: 4, gradient: score}"],
    "enumerate": [*MLP, "model.posterior={kind: categorical, classes: 3}", "objective.gradient=enumerate"],
    "vq": [*MLP, "model.posterior={kind: vq, classes: 8, dim: 3, depth: 2}"],
    "vq, autoregressive": [
        *MLP,
        "model.posterior={kind: vq, classes: 8}",
        "model.prior={kind: autoregressive, width: 8}",
    ],
    "fsq, factorised": [*MLP, "model.posterior={kind: fsq, levels: [4, 3]}", "model.prior=factorised"],
    "cyclical": [*MLP, "objective.beta={kind: cyclical, cycles: 4}"],
    "capacity": [*MLP, "objective.capacity={kind: warmup, end: 9}", "objective.beta=3"],
    "balance": [*MLP, "objective.balance=true"],
    "point": [*MLP, "model.posterior=deterministic", "objective.beta=0"],
    **{f"penalty {kind}": [*MLP, f"objective={{kind: regularised, penalties: [{kind}]}}"] for kind in PENALTIES},
    "warm-up": [*MLP, "objective.beta={kind: warmup, over: 0.02}"],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_gives_what_autograd_gives(kind):
    engines = []

    def programs(state: State) -> Programs:
        engines.append(Programs(state, Train(batch_size=20)))
        return engines[-1]

    check_close(gradients(KINDS[kind], programs), gradients(KINDS[kind], Autograd))
    assert not engines[0].untraceable, engines[0].notice
    assert len(engines[0].traced) == 2  # of two shapes: whole batches and the last


@pytest.mark.parametrize("kind", ["categorical", "conv", "bernoulli"])
def test_a_program_with_every_product_by_onednn(kind, monkeypatch):
    monkeypatch.setattr(kernels, "choose", lambda x, weight, bias: ("product", "onednn"))
    check_close(
        gradients(KINDS[kind], lambda state: Programs(state, Train(batch_size=20))), gradients(KINDS[kind], Autograd)
    )


NOISE = Noise([torch.randn(1, 8, 2, generator=torch.Generator().manual_seed(0))])


def model_of(encoder: nn.Module) -> State:
    model = VAE(Conditional(encoder, Gaussian()), StandardNormal().build(2), Conditional(nn.Linear(2, 6), Bernoulli()))
    return State(Step(model, Elbo(), 8, World()), Train())


def test_buffers_that_a_network_changes_are_changed_once_by_a_program():
    inputs = StepInputs(torch.rand(8, 6).round(), Elbo(), noise=NOISE)
    after = []
    for make in (Autograd, lambda state: Programs(state, Train(batch_size=20))):
        torch.manual_seed(0)
        state = model_of(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)))
        engine = make(state)
        for _ in range(3):
            engine(inputs, 1.0, True)
        after += [dict(state.step.named_buffers())]
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value)


@pytest.mark.parametrize("event", [(3, 17), (2, 9, 6), (2, 4, 5, 3)], ids=str)
@pytest.mark.parametrize("kind", ["conv", "resnet", "spatial"])
def test_a_program_of_convolutions_over_any_layout(kind, event):
    """With weights laid out as training has them."""
    x = torch.randn(8, *event, generator=torch.Generator().manual_seed(1))
    found = []
    for make in (lambda state: Programs(state, Train(batch_size=8)), Autograd):
        torch.manual_seed(0)
        if kind == "spatial":
            groups = SpatialHierarchy(latent=3, channels=(4, 8), groups=(1, 1), hidden=8)
            model = groups.build(Gaussian(), StandardNormal(), Gaussian(), BuildContext(event, 2))
        else:
            network = {"conv": Conv((4, 8), hidden=8), "resnet": ResNet((4, 8), blocks=1, hidden=8)}[kind]
            encoder = with_context(lambda shape, net=network: net.build(shape, 4), event, 2)
            decoder = with_context(lambda shape, net=network: net.build(shape, 2 * math.prod(event), event), (2,), 2)
            model = VAE(
                Conditional(encoder, Gaussian()),
                StandardNormal().build(2),
                Conditional(decoder, Gaussian(), event, units=Units(event, "channel")),
            )
        state = State(Step(with_weights_channels_last(model), Elbo(), 8, World()), Train())
        draw = model.draw(x, context=torch.zeros(8, 2))
        generator = torch.Generator().manual_seed(2)
        noise = Noise([torch.randn(latent.z.shape, generator=generator) for latent in draw.latents])
        engine = make(state)
        engine(StepInputs(x, Elbo(), noise=noise, context=x.flatten(1)[:, :2]), 1.0, True)
        found.append([p.grad for p in model.parameters()])
        assert not getattr(engine, "untraceable", False)
    check_close(*found)


class Choosy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


def test_a_step_that_cannot_be_traced_runs_through_autograd_and_says_so():
    state = model_of(Choosy())
    engine = Programs(state, Train(batch_size=20))
    engine(StepInputs(torch.ones(8, 6), Elbo(), noise=NOISE), 1.0, True)
    assert "cannot be traced" in engine.notice
    assert state.step.model.posterior.network.layer.weight.grad is not None


def test_parameters_that_have_no_gradient_keep_none():
    network = nn.Linear(6, 4)
    network.idle = nn.Parameter(torch.zeros(3))
    state = model_of(network)
    Programs(state, Train(batch_size=20))(StepInputs(torch.ones(8, 6), Elbo(), noise=NOISE), 1.0, True)
    assert network.idle.grad is None
    assert network.weight.grad is not None


def test_a_programs_gradients_lie_in_memory_as_the_parameters_do():
    network = nn.Linear(6, 4)
    network.weight = nn.Parameter(network.weight.detach().t().contiguous().t())
    state = model_of(network)
    Programs(state, Train(batch_size=20))(StepInputs(torch.ones(8, 6), Elbo(), noise=NOISE), 1.0, True)
    for parameter in state.step.parameters():
        assert parameter.grad is not None
        assert parameter.grad.stride() == parameter.stride()


def test_idle_operations_are_left_out_of_a_program():
    def f(x):
        return [(x.detach().view(3, 4).t().t() * 1.0).expand(3, 4) + 1]

    program = trace(f, [torch.ones(3, 4)])
    assert [node.op for node in program.graph.nodes] == ["placeholder", "call_function", "output"]


def test_a_program_gives_results_of_its_own():
    def twice(x, y):
        total = x + y
        return [total, total, x, torch.zeros_like(x)]

    x, y = torch.ones(3), torch.ones(3)
    program = trace(twice, [x, y])
    for _ in range(2):
        results = program(x, y)
        for result, value in zip(results, (2, 2, 1, 0), strict=True):
            assert (result == value).all()
            result.add_(10)
    assert (x == 1).all()
    assert (y == 1).all()


def test_a_training_of_some_length_runs_by_programs_after_its_first_steps():
    training = start([*MLP, "train.epochs=300", "train.batch_size=25"])
    update = Updater(training.state, training.data.train, training.run.train, seed=0, steps=600)
    assert isinstance(update.engine, Programs)
    for step in range(FIRST_TRACED + 2):
        update(torch.arange(25), training.run.objective, 600)
        assert bool(update.engine.traced) == (step >= FIRST_TRACED)
    assert isinstance(
        Updater(training.state, training.data.train, training.run.train, seed=0, steps=100).engine, Autograd
    )


def test_tracing_leaves_global_state_alone(globals_untouched, fresh_cache):
    with globals_untouched():
        gradients(MLP, lambda state: Programs(state, Train(batch_size=20)))


def test_noise_drawn_ahead_is_that_of_the_step_and_of_the_place_in_the_batch():
    training = start(MLP)
    x = training.data.train.batch(slice(0, 1))
    source, other = (NoiseSource(training.model, x, None, samples=2, seed=0) for _ in range(2))

    def draw(source, rows, step):
        (noise,) = source(rows, 50, step).latents
        return noise

    forwards = [draw(source, slice(0, 50), step) for step in range(100)]
    short = [source(slice(0, 13), 13, step).latents[0] for step in range(32)]
    numbers, others = (set(torch.stack(drawn).flatten().tolist()) for drawn in (short, forwards))
    assert len(numbers & others) < 0.05 * len(numbers)  # some by chance: floats are few
    for step in (99, 31, 32, 0):
        assert torch.equal(draw(other, slice(10, 30), step), forwards[step][:, 10:30])
    assert len({float(noise[0, 0, 0]) for noise in forwards}) == 100
