"""Kernels, precision, compiling and threads are chosen by what they are measured to gain; budgets hold."""

import pytest
import torch
from few_batches import MLP, SMALL, check_close, gradients, start
from torch import nn

from vaekit import kernels, measured
from vaekit.runs import fit, make_run, override, preset
from vaekit.training import State, Train
from vaekit.training.engine import Autograd, Programs, build_engine, compiling, selection, slowed_by_others
from vaekit.training.engine import programs as engine_module
from vaekit.training.engine.simplifying import trace
from vaekit.training.noise import Noise
from vaekit.training.step import StepInputs

pytestmark = pytest.mark.usefixtures("one_thread")


def test_choices_are_made_once_for_a_machine(fresh_cache, monkeypatch):
    x, weight = torch.ones(4, 8), torch.ones(5, 8)
    name, kernel = kernels.choose(x, weight, None)
    assert kernel in kernels.KERNELS
    (file,) = fresh_cache.rglob("kernels/*.json")
    other = "torch" if kernel == "onednn" else "onednn"
    file.write_text(file.read_text().replace(kernel, other))
    monkeypatch.setattr(kernels.measured, "facts", {})
    monkeypatch.setattr(kernels.measured, "read", False)
    assert kernels.choose(x, weight, None) == (name, other)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"NAME": 7}', '{"NAME": ["torch"]}', "[" * 100_000])
def test_a_damaged_cache_is_no_cache(fresh_cache, content):
    name, _ = kernels.choose(torch.ones(4, 8), torch.ones(5, 8), None)
    (file,) = fresh_cache.rglob("kernels/*.json")
    file.write_text(content.replace("NAME", name))
    kernels.measured.facts, kernels.measured.read = {}, False
    assert kernels.choose(torch.ones(4, 8), torch.ones(5, 8), None)[1] in kernels.KERNELS


@torch.no_grad()
def test_linear_is_torchs_whatever_the_kernel(monkeypatch):
    x, weight, bias = torch.randn(3, 7, 8), torch.randn(5, 8), torch.randn(5)
    for kernel in kernels.KERNELS:
        monkeypatch.setattr(kernels, "choose", lambda *given, kernel=kernel: ("", kernel))
        torch.testing.assert_close(kernels.linear(x, weight, bias), nn.functional.linear(x, weight, bias))
    double = kernels.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(double, nn.functional.linear(x.double(), weight.double(), bias.double()))


def test_networks_in_bf16_leave_everything_else_in_single_precision():
    half = start([*MLP, "train.precision=bf16"])
    engine = build_engine(half.state, half.run.train, steps=1000)
    assert half.state.at.precision == "bf16"
    x = half.data.train.batch(slice(0, 20))
    sums = engine(StepInputs(x, half.run.objective, noise=Noise([torch.randn(1, 20, 3)])), 1 / 20, True)
    assert all(value.dtype == torch.float32 for value in sums.values())
    assert all(p.grad.dtype == torch.float32 for p in half.state.step.parameters())
    exact = start([*MLP, "train.precision=fp32"])
    build_engine(exact.state, exact.run.train, steps=1000)
    assert exact.state.at.precision == "fp32"
    wanted = gradients([*MLP, "train.precision=fp32"], lambda state: Programs(state, Train(batch_size=20)))
    found = gradients([*MLP, "train.precision=bf16"], lambda state: Programs(state, Train(batch_size=20)))
    check_close(found, wanted, rtol=0.05)
    assert any(not torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_auto_precision_is_single_where_half_is_not_much_faster(monkeypatch):
    for gain, wanted in ((1.0, "fp32"), (3.0, "bf16")):
        monkeypatch.setattr(selection, "bf16_gain", lambda gain=gain: gain)
        training = start(MLP)
        build_engine(training.state, training.run.train, steps=1000)
        assert training.state.at.precision == wanted


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    """A machine without a C++ compiler, and nothing compiled before."""
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    with config.patch({"cpp.cxx": (str(tmp_path / "no-such-compiler"),)}):
        yield


def test_without_a_compiler_training_goes_on_and_gives_the_same(no_compiler, fresh_cache):
    plain = fit(make_run(override(preset("digits"), [*SMALL, *MLP, "train.epochs=40", "train.compile=off"]))).model
    training = start([*MLP, "train.epochs=40", "train.compile=on"])
    messages = [event.message for event in training.events() if event.kind == "notice"]
    assert len(messages) == 1
    assert messages[0].startswith("goes on uncompiled (")
    assert "compile=off does without" in messages[0]
    for name, value in plain.state_dict().items():
        assert torch.equal(training.model.state_dict()[name], value)


def test_a_compiled_program_gives_the_same(fresh_cache):
    engines = []

    def compiled(state: State) -> Programs:
        engines.append(Programs(state, Train(batch_size=20, compile="on")))
        return engines[-1]

    check_close(gradients(MLP, compiled), gradients(MLP, Autograd))
    assert engines[0].notice.startswith("compiled, in ")
    first, last = engines[0].traced.values()
    assert getattr(first.run, "__self__", None) is not first.program
    assert getattr(last.run, "__self__", None) is last.program


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
        monkeypatch.setattr(selection, "threads_help", lambda gain=gain: gain)
        assert slowed_by_others(torch.device("cpu")).startswith(wanted)
        assert bool(slowed_by_others(torch.device("cpu"))) == bool(wanted)


def test_what_a_busy_machine_measures_is_not_kept(fresh_cache, monkeypatch):
    monkeypatch.setattr(measured, "is_calm", lambda: False)
    kernels.choose(torch.ones(4, 8), torch.ones(5, 8), None)
    assert not list(fresh_cache.rglob("*.json"))


def test_asking_whether_threads_help_leaves_their_number_alone():
    before = torch.get_num_threads()
    assert measured.threads_help() > 0
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("batch", [20, 128])  # of 50 rows
def test_a_time_budget_becomes_steps_once_the_engine_is_settled(batch):
    training = start([*MLP, "train.budget=4s", f"train.batch_size={batch}"])
    decided, events = [], training.events(clock=lambda: training.state.at.step / 128)
    for event in events:
        if event.kind == "step" and training.state.at.steps is None:
            decided += [training.state.at.compiled]
    assert (event.kind, event.step, event.steps) == ("end", 512, 512)
    assert set(decided) == {None, False}
    assert training.state.at.total_seconds == 4


def test_a_budget_too_short_for_what_is_to_be_measured_is_kept_all_the_same():
    training = start([*MLP, "train.budget=1s"])
    events = list(training.events(clock=lambda: training.state.at.step / 8))
    assert (events[-1].kind, events[-1].step) == ("end", 8)
    assert training.state.at.compiled is None
    assert training.state.at.total_seconds == 1


@pytest.mark.parametrize(
    ("settings", "rows"), [(["train.batch_size=40", "train.micro_batch=30"], 20), (["train.batch_size=128"], 50)]
)
def test_pieces_of_a_whole_batch_are_what_is_compiled_however_they_come_about(settings, rows, monkeypatch):
    asked = []
    monkeypatch.setattr(
        engine_module, "compile_program", lambda program, inputs: asked.append(program) or program.forward
    )
    training = start([*MLP, *settings, "train.epochs=40", "train.compile=on"])
    messages = [event.message for event in training.events() if event.kind == "notice"]
    assert len(asked) == 1
    assert [f.meta["form"].shape for f in asked[0].graph.nodes if f.op == "placeholder"].count((rows, 1, 8, 8)) == 1
    assert any(text.startswith("compiled, in") for text in messages)


def test_too_few_steps_to_compile_are_said_to_be():
    messages = [event.message for event in start([*MLP, "train.epochs=1", "train.compile=on"]).events()]
    assert "not compiled: 3 steps are over before there is anything to compile" in messages
