"""However a step's gradients are computed, they are those of autograd."""

import time
from dataclasses import replace

import pytest
import torch
from torch import nn

from unions import members
from vaekit import products
from vaekit.models import VAE, Bernoulli, Conditional, Gaussian, Standard
from vaekit.objectives import Elbo, Regulariser
from vaekit.runs import Job, fit, make_run, override, preset
from vaekit.training import State, Step, Train, compiling
from vaekit.training import engine as engine_module
from vaekit.training.engine import FIRST_TRACED, Autograd, Programs, build_engine, slowed_by_others
from vaekit.training.optimisers import Updates
from vaekit.training.program import trace
from vaekit.training.spec import Adam, Adamax, AdamW
from vaekit.training.step import NoiseSource
from vaekit.training.update import Updater
from vaekit.world import World

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ["limit.train=50", "limit.valid=10", "train.batch_size=20", "model.latent=3", "train.epochs=100"]
MLP = ["model.encoder.widths=[16]", "model.decoder.widths=[16]"]
CONV = [f"model.{part}={{kind: conv, channels: [4, 8], hidden: 16}}" for part in ("encoder", "decoder")]
DENSE = "model={kind: ladder, groups: {latent: [3, 2], widths: [8]}}"
SPATIAL = "model={kind: ladder, groups: {kind: spatial, latent: 3, channels: [4, 8], groups: [1, 1], hidden: 16}}"
PENALTIES = [kind.kind for kind in members(Regulariser)]
KINDS = {
    "categorical": MLP,
    "conv": CONV,
    "silu": [*MLP, "model.encoder.activation=silu", "model.decoder.activation=silu"],
    "bernoulli": [*MLP, "data.binarise=dynamic"],
    "soft bernoulli": [*MLP, "model.likelihood=soft_bernoulli"],
    "continuous bernoulli": [*MLP, "model.likelihood=continuous_bernoulli"],
    "calibrated gaussian": [*MLP, "model.likelihood=calibrated_gaussian"],
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
    "ladder": [DENSE],
    "ladder, vamp": [DENSE, "model.prior={kind: vamp, components: 5}", "objective.samples=2", "data.context=label"],
    "ladder, landing": [DENSE, "objective.gradient=stick_the_landing", "objective.free_nats=0.5"],
    "ladder, iwae": [DENSE, "objective={kind: iwae, samples: 4}"],
    "ladder, double": [DENSE, "objective={kind: iwae, samples: 4, gradient: doubly_reparametrised}"],
    "spatial ladder": [SPATIAL, "objective.samples=2"],
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
    "point": [*MLP, "model.posterior=point", "objective.beta=0"],
    **{f"penalty {kind}": [*MLP, f"objective={{kind: regularised, penalties: [{kind}]}}"] for kind in PENALTIES},
    "warm-up": [*MLP, "objective.beta={kind: warmup, over: 0.02}"],
}
ROWS = [slice(0, 20), slice(20, 40), slice(40, 50), slice(7, 27)]


def gradients(settings: list[str], make) -> list[torch.Tensor]:
    """The sums and gradients of a few batches, the weights moved a little in between."""
    job = start(settings)
    update = Updater(job.state, job.data.train, job.run.train, seed=0, steps=1000)
    update.engine, found = make(job.state), []
    for number, rows in enumerate(ROWS):
        job.state.advance(step=5 * number)
        update.step.steps = 1000
        _, sums = update._gradients(torch.arange(50)[rows])
        found += [torch.tensor(list(sums.values()), dtype=torch.float64)]
        found += [p.grad.double().clone() for p in job.state.step.parameters() if p.grad is not None]
        with torch.no_grad():
            for p in job.state.step.parameters():
                p.add_(p.grad if p.grad is not None else 0, alpha=-0.01)
        update.step.settle()
    return found


def start(settings: list[str]) -> Job:
    return Job.start(make_run(override(preset("digits"), [*SMALL, *settings])))


def check_close(found: list[torch.Tensor], wanted: list[torch.Tensor], rtol: float = 1e-4) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=rtol * float(other.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_gives_what_autograd_gives(kind):
    engines = []

    def programs(state: State) -> Programs:
        engines.append(Programs(state, Train(batch_size=20)))
        return engines[-1]

    check_close(gradients(KINDS[kind], programs), gradients(KINDS[kind], Autograd))
    assert not engines[0].untraceable, engines[0].told
    assert len(engines[0].traced) == 2  # of two shapes: whole batches and the last


@pytest.mark.parametrize("kind", ["categorical", "conv", "bernoulli"])
def test_a_program_with_every_product_by_onednn(kind, monkeypatch):
    monkeypatch.setattr(products, "choose", lambda x, weight, bias: ("product", "onednn"))
    check_close(
        gradients(KINDS[kind], lambda state: Programs(state, Train(batch_size=20))), gradients(KINDS[kind], Autograd)
    )


def model_of(encoder: nn.Module) -> State:
    model = VAE(Conditional(encoder, Gaussian()), Standard().build(2), Conditional(nn.Linear(2, 6), Bernoulli()))
    return State(Step(model, Elbo(), 8, World()), Train())


def test_buffers_that_a_network_changes_are_changed_once_by_a_program():
    x, noise = torch.rand(8, 6).round(), [torch.randn(1, 8, 2)]
    after = []
    for make in (Autograd, lambda state: Programs(state, Train(batch_size=20))):
        torch.manual_seed(0)
        state = model_of(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 4)))
        engine = make(state)
        for _ in range(3):
            engine(x, None, noise, 1.0, True)
        after += [dict(state.step.named_buffers())]
    for name, value in after[0].items():
        torch.testing.assert_close(after[1][name], value)


class Choosy(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)


def test_a_step_that_cannot_be_traced_runs_through_autograd_and_says_so():
    state = model_of(Choosy())
    engine = Programs(state, Train(batch_size=20))
    engine(torch.ones(8, 6), None, [torch.randn(1, 8, 2)], 1.0, True)
    assert "cannot be traced" in engine.told
    assert state.step.model.posterior.network.layer.weight.grad is not None


def test_parameters_that_have_no_gradient_keep_none():
    network = nn.Linear(6, 4)
    network.idle = nn.Parameter(torch.zeros(3))
    state = model_of(network)
    Programs(state, Train(batch_size=20))(torch.ones(8, 6), None, [torch.randn(1, 8, 2)], 1.0, True)
    assert network.idle.grad is None
    assert network.weight.grad is not None


def test_idle_operations_are_left_out_of_a_program():
    def f(x):
        return [(x.detach().view(3, 4).t().t() * 1.0).expand(3, 4) + 1]

    program = trace(f, [torch.ones(3, 4)])
    assert [node.op for node in program.graph.nodes] == ["placeholder", "call_function", "output"]


@pytest.fixture
def fresh_cache(tmp_path, monkeypatch):
    """Nothing measured yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for store in (products.measured, compiling.measured):
        monkeypatch.setattr(store, "facts", {})
        monkeypatch.setattr(store, "read", False)
    return tmp_path / "cache"


def test_choices_are_made_once_for_a_machine(fresh_cache, monkeypatch):
    x, weight = torch.ones(4, 8), torch.ones(5, 8)
    name, kernel = products.choose(x, weight, None)
    assert kernel in products.KERNELS
    (file,) = fresh_cache.rglob("kernels/*.json")
    other = "torch" if kernel == "onednn" else "onednn"
    file.write_text(file.read_text().replace(kernel, other))
    monkeypatch.setattr(products.measured, "facts", {})
    monkeypatch.setattr(products.measured, "read", False)
    assert products.choose(x, weight, None) == (name, other)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"4x8x5 nn threads=1": 7}'])
def test_a_damaged_cache_is_no_cache(fresh_cache, content):
    products.choose(torch.ones(4, 8), torch.ones(5, 8), None)
    (file,) = fresh_cache.rglob("kernels/*.json")
    file.write_text(content)
    products.measured.facts, products.measured.read = {}, False
    assert products.choose(torch.ones(4, 8), torch.ones(5, 8), None)[1] in products.KERNELS


def test_linear_is_torchs_whatever_the_kernel(monkeypatch):
    x, weight, bias = torch.randn(3, 7, 8), torch.randn(5, 8), torch.randn(5)
    for kernel in products.KERNELS:
        monkeypatch.setattr(products, "choose", lambda *given, kernel=kernel: ("", kernel))
        torch.testing.assert_close(products.linear(x, weight, bias), nn.functional.linear(x, weight, bias))
    double = products.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(double, nn.functional.linear(x.double(), weight.double(), bias.double()))


def test_networks_in_bf16_leave_everything_else_in_single_precision():
    half = start([*MLP, "train.precision=bf16"])
    engine = build_engine(half.state, half.run.train, steps=1000)
    assert half.state.step.bf16
    x = half.data.train.batch(slice(0, 20))
    sums = engine(x, None, [torch.randn(1, 20, 3)], 1 / 20, True)
    assert all(value.dtype == torch.float32 for value in sums.values())
    assert all(p.grad.dtype == torch.float32 for p in half.state.step.parameters())
    exact = start([*MLP, "train.precision=fp32"])
    wanted = gradients([*MLP], lambda state: Programs(state, Train(batch_size=20)))
    found = gradients([*MLP, "train.precision=bf16"], lambda state: Programs(state, Train(batch_size=20)))
    assert not exact.state.step.bf16
    check_close(found, wanted, rtol=0.05)
    assert any(not torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_auto_precision_is_single_where_half_is_not_much_faster(monkeypatch):
    for gain, wanted in ((1.0, "fp32"), (3.0, "bf16")):
        monkeypatch.setattr(products, "bf16_gain", lambda gain=gain: gain)
        job = start(MLP)
        build_engine(job.state, job.run.train, steps=1000)
        assert job.state.at.precision == wanted


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine without a C++ compiler, and nothing compiled before."""
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    with config.patch({"cpp.cxx": (str(tmp_path / "no-such-compiler"),)}):
        yield


def test_without_a_compiler_training_goes_on_and_gives_the_same(no_compiler, fresh_cache):
    plain = fit(make_run(override(preset("digits"), [*SMALL, *MLP, "train.epochs=40", "train.compile=off"])))
    job = start([*MLP, "train.epochs=40", "train.compile=on"])
    told = [event.message for event in job.events() if event.kind == "notice"]
    assert len(told) == 1
    assert told[0].startswith("goes on uncompiled (")
    assert "train.compile=off does without" in told[0]
    for name, value in plain.state_dict().items():
        assert torch.equal(job.model.state_dict()[name], value)


def test_a_compiled_program_gives_the_same(fresh_cache):
    engines = []

    def compiled(state: State) -> Programs:
        engines.append(Programs(state, Train(batch_size=20, compile="on")))
        return engines[-1]

    check_close(gradients(MLP, compiled), gradients(MLP, Autograd))
    assert engines[0].told.startswith("compiled, in ")
    first, last = engines[0].traced.values()
    assert first.run != first.program.forward
    assert last.run == last.program.forward


def test_whether_to_compile_is_decided_by_what_it_saves(fresh_cache):
    program = trace(lambda x: [x + 1], [torch.ones(3)])
    assert not compiling.pays(program, seconds=0.01, calls=1000)[0]
    assert compiling.pays(program, seconds=0.01, calls=1_000_000)[0]
    compiling.measured.put(compiling.name_of(program), {"cost": 20.0, "gain": 0.0})
    promising, reckoning = compiling.pays(program, seconds=0.01, calls=1_000_000)
    assert not promising
    assert "as measured before" in reckoning


def test_a_busy_machine_is_noticed(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for gain, wanted in ((0.5, "this machine is busy: 2 threads are slower than one (0.50 times"), (1.9, "")):
        monkeypatch.setattr(products, "threads_help", lambda gain=gain: gain)
        assert slowed_by_others(torch.device("cpu")).startswith(wanted)
        assert bool(slowed_by_others(torch.device("cpu"))) == bool(wanted)


def test_what_a_busy_machine_measures_is_not_kept(fresh_cache, monkeypatch):
    monkeypatch.setattr(products, "is_calm", lambda: False)
    products.choose(torch.ones(4, 8), torch.ones(5, 8), None)
    assert not list(fresh_cache.rglob("*.json"))


def test_asking_whether_threads_help_leaves_their_number_alone():
    before = torch.get_num_threads()
    assert products.threads_help() > 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "adamax"])
def test_updates_are_those_of_torchs_optimisers(optimiser):
    spec = {"adam": Adam(betas=(0.8, 0.9)), "adamw": AdamW(weight_decay=0.1), "adamax": Adamax(eps=1e-3)}[optimiser]
    theirs = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "adamax": torch.optim.Adamax}[optimiser]
    more = {"weight_decay": 0.1} if optimiser == "adamw" else {}
    ours = [nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))]
    others = [nn.Parameter(p.detach().clone()) for p in ours]
    update = Updates(spec, ours)
    wanted = theirs(others, lr=0.1, betas=spec.betas, eps=spec.eps, **more)
    for step in range(10):
        for p, q in zip(ours, others, strict=True):
            p.grad = torch.randn_like(p) * (step < 5)
            q.grad = p.grad.clone()
        update(0.1)
        wanted.step()
    for p, q in zip(ours, others, strict=True):
        torch.testing.assert_close(p, q)


@pytest.mark.parametrize("batch", [20, 128])  # of 50 rows
def test_a_time_budget_becomes_steps_once_the_engine_is_settled(batch):
    job = start([*MLP, "train.budget=2s", f"train.batch_size={batch}"])
    events = list(job.events())
    assert events[-1].kind == "end"
    assert job.state.at.compiled is False
    assert job.state.at.steps is not None
    assert job.state.at.step == job.state.at.steps


def test_a_budget_too_short_for_what_is_to_be_measured_is_kept_all_the_same(monkeypatch):
    plain = Autograd.__call__

    def slow(engine, *arguments):
        time.sleep(0.1)
        return plain(engine, *arguments)

    monkeypatch.setattr(Autograd, "__call__", slow)
    job = start([*MLP, "train.budget=1s"])
    events = list(job.events())
    assert events[-1].kind == "end"
    assert 4 <= job.state.at.step <= 13
    assert job.state.at.total_seconds < 2


@pytest.mark.parametrize(
    ("settings", "rows"), [(["train.batch_size=40", "train.micro_batch=30"], 20), (["train.batch_size=128"], 50)]
)
def test_pieces_of_a_whole_batch_are_what_is_compiled_however_they_come_about(settings, rows, monkeypatch):
    asked = []
    monkeypatch.setattr(
        engine_module, "compile_program", lambda program, inputs: asked.append(program) or program.forward
    )
    job = start([*MLP, *settings, "train.epochs=40", "train.compile=on"])
    told = [event.message for event in job.events() if event.kind == "notice"]
    assert len(asked) == 1
    assert [f.meta["form"].shape for f in asked[0].graph.nodes if f.op == "placeholder"].count((rows, 1, 8, 8)) == 1
    assert any(text.startswith("compiled, in") for text in told)


def test_too_few_steps_to_compile_are_said_to_be():
    told = [event.message for event in start([*MLP, "train.epochs=1", "train.compile=on"]).events()]
    assert "not compiled: 3 steps are over before there is anything to compile" in told


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
    job = start([*MLP, "train.epochs=300", "train.batch_size=25"])
    update = Updater(job.state, job.data.train, job.run.train, seed=0, steps=600)
    assert isinstance(update.engine, Programs)
    for step in range(FIRST_TRACED + 2):
        update(torch.arange(25), 600)
        assert bool(update.engine.traced) == (step >= FIRST_TRACED)
    assert isinstance(Updater(job.state, job.data.train, job.run.train, seed=0, steps=100).engine, Autograd)


def test_tracing_leaves_global_state_alone(globals_untouched, fresh_cache):
    with globals_untouched():
        gradients(MLP, lambda state: Programs(state, Train(batch_size=20)))


@pytest.mark.parametrize("optimiser", ["adam", "adamax"])
def test_moments_of_a_weight_that_gets_no_gradient_any_more_are_cleared_before_they_are_denormal(optimiser):
    job = start([*MLP, f"train.optimiser={optimiser}", "limit.valid=5"])
    black = job.data.train.values.clone()
    black[:, :, :4] = 0  # the first layer's weights of these pixels: gradients only ever zero
    update = Updater(job.state, replace(job.data.train, values=black), job.run.train, seed=0, steps=3000)
    state = job.state.players[0].updates.state
    weight = next(p for p in job.state.step.parameters() if p.shape == (16, 64))

    update(torch.arange(20), 3000)
    state[weight]["exp_avg"][:, :32] = 1e-6
    for _ in range(900):
        update(torch.arange(20), 3000)
        moment = state[weight]["exp_avg"]
        assert not ((moment != 0) & (moment.abs() < torch.finfo(torch.float32).tiny)).any()
    assert (state[weight]["exp_avg"][:, :32] == 0).all()


def test_noise_drawn_ahead_is_that_of_the_step_and_of_the_place_in_the_batch():
    job = start(MLP)
    x = job.data.train.batch(slice(0, 1))
    source, other = (NoiseSource(job.model, x, None, samples=2, seed=0) for _ in range(2))

    def draw(source, rows, step):
        (noise,) = source(rows, 50, step)
        return noise

    forwards = [draw(source, slice(0, 50), step) for step in range(100)]
    short = [source(slice(0, 13), 13, step)[0] for step in range(32)]
    numbers, others = (set(torch.stack(drawn).flatten().tolist()) for drawn in (short, forwards))
    assert len(numbers & others) < 0.05 * len(numbers)  # some by chance: floats are few
    for step in (99, 31, 32, 0):
        assert torch.equal(draw(other, slice(10, 30), step), forwards[step][:, 10:30])
    assert len({float(noise[0, 0, 0]) for noise in forwards}) == 100


@pytest.mark.parametrize("settings", [Adam(), AdamW(), Adamax()], ids=lambda s: s.kind)
def test_an_update_does_not_depend_on_how_gradients_lie_in_memory(settings):
    """As a program returns them: a part of something larger, or channels first for weights that have them last."""
    weights = [torch.randn(3, 4), torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last)]
    gradients = [torch.randn(3, 8)[:, :4], torch.randn(4, 3, 2, 2)]
    found = []
    for laid_out in (False, True):
        parameters = [nn.Parameter(w.clone()) for w in weights]
        update = Updates(settings, parameters)
        for _ in range(3):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = torch.empty_like(parameter).copy_(gradient) if laid_out else gradient
            update(0.1)
        found.append([p.detach() for p in parameters])
    torch.testing.assert_close(*found)
