"""`fit` trains modules and data of one's own, or a run, and changes nothing else of the caller's."""

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import distributions as td
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from naming import naming
from vaekit import (
    VAE,
    Bernoulli,
    Categorical,
    Conditional,
    Draw,
    Gaussian,
    Iwae,
    Mlp,
    StandardNormal,
    evaluate,
    fit,
    open_run,
)
from vaekit.data import DataSpec, dataset_of
from vaekit.errors import DataError, Diverged, SpecError
from vaekit.networks import Rescale
from vaekit.objectives import Elbo, Factor, Pathwise, Regularised, StepContext, Terms
from vaekit.runs import make_run, run
from vaekit.runs.factory import build_model
from vaekit.training import Train

SHORT = Train(epochs=2, precision="fp32", device="cpu")


def rows(n: int = 100, seed: int = 0) -> torch.Tensor:
    return (torch.rand(n, 8, generator=torch.Generator().manual_seed(seed)) < 0.3).float()


def own(context: int = 0) -> VAE:
    torch.manual_seed(0)
    likelihood = Conditional(Narrow(2 + context, 8), Bernoulli())
    return VAE(Conditional(Narrow(8 + context, 4), Gaussian()), StandardNormal().build(2), likelihood)


class Narrow(nn.Module):
    """A linear layer that takes a context beside its input."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        if context is not None:
            x = torch.cat([x, context.expand(*x.shape[:-1], -1)], -1)
        return self.layer(x)


class Frame:
    """What is asked of a data frame."""

    def __init__(self, values: np.ndarray, columns: list[str]):
        self.values, self.columns = values, columns

    def to_numpy(self) -> np.ndarray:
        return self.values

    def __getitem__(self, names: list[str]) -> "Frame":
        return Frame(self.values[:, [self.columns.index(name) for name in names]], names)


class Pairs(Dataset):
    def __init__(self, x: torch.Tensor):
        self.x = x

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.x[index], index % 3


def weights(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


NAMES = [f"c{i}" for i in range(8)]
KINDS = {
    "tensor": rows(),
    "double": rows().double().numpy(),
    "bytes": rows().numpy().astype(np.uint8),
    "list": rows().tolist(),
    "frame": Frame(rows().numpy(), NAMES),
    "sparse": sparse.csr_matrix(rows().numpy()),
    "dataset": TensorDataset(rows()),
    "pairs": Pairs(rows()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_of_any_kind_train_the_same_weights(kind):
    expected = weights(fit(own(), rows().numpy(), train=SHORT, progress=False).model)
    trained = fit(own(), KINDS[kind], train=SHORT, progress=False)
    torch.testing.assert_close(weights(trained.model), expected, rtol=0, atol=0)
    assert len(trained.data().train) == 90
    assert len(trained.data().valid) == 10


def test_a_trained_run_of_own_modules_takes_rows_and_gives_rows():
    model = own()
    trained = fit(model, Frame(rows().numpy(), NAMES), Iwae(samples=3), SHORT, progress=False)
    assert trained.model is model
    assert not model.training
    assert trained.settings.train == SHORT
    assert trained.encode(rows()[:5]).shape == (5, 2)
    assert trained.reconstruct(Frame(rows().numpy()[:, ::-1], NAMES[::-1])).shape == (100, 8)
    assert set(np.unique(trained.sample(20))) <= {0.0, 1.0}
    assert trained.evaluate(samples=4)["log_likelihood"].n == 10
    assert trained.evaluate(rows(7, seed=1))["elbo"].n == 7
    with pytest.raises(ValueError, match=r"state_dict\(\)") as found:
        _ = trained.folder
    assert "run_dir" not in str(found.value)


def test_given_rows_validate_in_place_of_some_of_the_data():
    trained = fit(own(), rows(), train=SHORT, valid=rows(20, seed=1), progress=False)
    assert len(trained.data().train) == 100
    torch.testing.assert_close(trained.data().valid.batch(slice(None)), rows(20, seed=1))


def test_the_weights_are_those_of_the_best_validation():
    x, other = rows(40), 1 - rows(40, seed=2)
    train = Train(epochs=30, lr=0.1, precision="fp32", device="cpu")
    trained = fit(own(), x, train=train, valid=other, progress=False)
    assert trained.weights["weights"] == "best"
    last = fit(own(), x, train=Train(**{**vars(train), "weights": "last"}), valid=other, progress=False)
    assert int(trained.weights["epoch"]) < int(last.weights["epoch"]) == 30
    best, at_last = (run.evaluate(other, samples=1)["elbo"].value for run in (trained, last))
    assert best > at_last


def test_whole_numbers_stay_such_for_a_likelihood_over_levels():
    x = torch.randint(0, 4, (60, 5), generator=torch.Generator().manual_seed(0))
    encoder, decoder = Mlp((8,)).build((5,), 4), Mlp((8,)).build((2,), 20)
    posterior = Conditional(encoder, Gaussian(), transform=Rescale(0, 3))
    model = VAE(posterior, StandardNormal().build(2), Conditional(decoder, Categorical(4), (5,)))
    trained = fit(model, x, train=SHORT, progress=False)
    assert trained.data().train.batch(slice(0, 2)).dtype == torch.int64
    assert trained.evaluate(x)["bits_per_dim"].value is not None


@pytest.mark.parametrize("context", [np.arange(100) % 3, np.eye(3)[np.arange(100) % 3], "label"])
def test_a_context_reaches_all_three_parts(context):
    data = Pairs(rows()) if isinstance(context, str) else rows()
    trained = fit(own(context=3), data, context=context, train=SHORT, progress=False)
    given = np.arange(5) % 3 if not isinstance(context, np.ndarray) or context.ndim == 1 else context[:5]
    assert trained.encode(rows()[:5], context=given).shape == (5, 2)
    assert trained.sample(4, context=given[:4]).shape == (4, 8)


class Anything(nn.Module):
    """A posterior or likelihood that is no Conditional."""

    def __init__(self, inputs: int, outputs: int, bernoulli: bool):
        super().__init__()
        self.layer, self.bernoulli = nn.Linear(inputs, outputs), bernoulli

    def forward(self, x: torch.Tensor) -> td.Distribution:
        raw = self.layer(x)
        one = td.Bernoulli(logits=raw) if self.bernoulli else td.Normal(raw, torch.ones_like(raw))
        return td.Independent(one, 1)


def test_any_modules_that_return_distributions_will_do():
    torch.manual_seed(0)
    model = VAE(Anything(8, 2, False), StandardNormal().build(2), Anything(2, 8, True))
    before = weights(model)
    fit(model, rows(), train=SHORT, progress=False)
    assert all(not torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_hierarchical_vae_is_fitted():
    settings = {"kind": "hierarchical", "groups": {"kind": "dense", "latent": [3, 2]}, "likelihood": "bernoulli"}
    model = build_model(
        make_run({"model": settings}), dataset_of(rows(), DataSpec(support="binary", scale="none")).schema
    )
    assert fit(model, rows(), train=SHORT, progress=False).encode(rows()[:4]).shape == (4, 5)


def test_an_objective_may_have_a_discriminator():
    fit(own(), rows(), Regularised(penalties=Factor()), SHORT, progress=False)


def test_nothing_of_the_caller_is_changed(capfd):
    torch.manual_seed(5)
    model = own()
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), torch.get_num_threads(), torch.get_default_dtype()
    handler = signal.getsignal(signal.SIGINT)
    x = rows()
    with torch.no_grad():
        fit(model, x, train=SHORT, progress=False)
        assert not torch.is_grad_enabled()
    after = torch.get_rng_state(), np.random.get_state()[1], torch.get_num_threads(), torch.get_default_dtype()
    assert torch.equal(before[0], after[0])
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.equal(x, rows())
    assert all(weight.requires_grad for weight in model.parameters())
    assert capfd.readouterr() == ("", "")


def test_progress_is_shown_on_stderr_line_by_line(capfd):
    fit(own(), rows(), train=Train(epochs=20, precision="fp32", log_every=10))
    out, err = capfd.readouterr()
    assert out == ""
    lines = [line.split(":")[0] for line in err.splitlines() if line.startswith("epoch")]
    assert lines == ["epoch 1/20", "epoch 10/20", "epoch 20/20"]
    assert "\x1b" not in err


def test_an_interrupt_ends_training_and_gives_what_was_trained():
    began = time.process_time()

    def interrupt() -> None:
        while time.process_time() < began + 1:  # of this process alone, however busy the machine is
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Thread(target=interrupt)
    timer.start()
    with pytest.warns(UserWarning, match="interrupted at step"):
        trained = fit(own(), rows(), train=Train(epochs=100_000, precision="fp32", device="cpu"), progress=False)
    timer.join()
    assert 0 < int(trained.weights["epoch"]) < 100_000
    assert trained.encode(rows()).shape == (100, 2)


def test_rows_with_the_constants_of_the_training_rows_are_taken_as_they_come(tmp_path):
    x = np.random.default_rng(0).normal(size=(60, 4))
    x[:, 1] = 3
    settings = ["train.epochs=1", "model.latent=2", "model.encoder.widths=[4]", "model.decoder.widths=[4]"]
    trained = fit(run(*settings), x, progress=False)
    assert [constant.name for constant in trained.schema.constants] == ["column 1"]
    codes = trained.encode(x)
    np.testing.assert_array_equal(codes, trained.encode(x[:, [0, 2, 3]]))
    assert trained.reconstruct(x).shape == x.shape
    assert (trained.reconstruct(x)[:, 1] == 3).all()
    np.save(tmp_path / "x.npy", x)
    np.testing.assert_array_equal(codes, trained.encode(tmp_path / "x.npy"))


def test_a_run_is_fitted_to_a_trained_run(tmp_path):
    tree = {"data": {"source": "digits"}, "limit": {"train": 50}, "train": {"epochs": 1, "precision": "fp32"}}
    trained = fit(make_run({**tree, "run_dir": str(tmp_path / "run")}), progress=False)
    again = open_run(tmp_path / "run")
    torch.testing.assert_close(weights(trained.model), weights(again.model), rtol=0, atol=0)
    assert trained.settings.model == again.settings.model
    assert trained.schema == again.schema
    assert trained.weights["epoch"] == str(again.weights["epoch"])
    assert trained.folder.path == again.folder.path


def nan() -> torch.Tensor:
    x = rows()
    x[3, 2] = torch.nan
    return x


@pytest.mark.parametrize(
    ("call", "error", "why"),
    [
        (lambda: fit(own()), TypeError, "needs data"),
        (lambda: fit(make_run({"data": {"source": "digits"}}), rows()), TypeError, "leave one of them out"),
        (lambda: fit(own().double(), rows()), TypeError, "float64"),
        (lambda: fit(own(), nan()), DataError, "NaN"),
        (lambda: fit(own(), rows() + 0.5), ValueError, "binarise"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_words_of_python(call, error, why):
    with pytest.raises(error, match=why) as found:
        call()
    assert not {"model.", "data.", "train.", "--"} & set(str(found.value).split())


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: fit(own(), rows()[:1]), "data"),
        (lambda: fit(own(), rows()[0]), "data"),
        (lambda: fit(own(), np.array([["a"]])), "data"),
        (lambda: fit(own(), TensorDataset(rows()[:0])), "data"),
        (lambda: fit(own(), rows(), valid=rows()[:, :3]), "valid"),
        (lambda: fit(own(), rows(), valid=1.5), "valid"),
        (lambda: fit(own(3), rows(), context=np.zeros(4)), "context"),
        (lambda: fit(own(3), rows(), valid=rows(), context=np.zeros(100)), "context"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_an_argument_that_is_no_data_is_named(call, field):
    with pytest.raises(DataError, check=naming(field)) as found:
        call()
    assert not {"model.", "data.", "train.", "--"} & set(str(found.value).split())


class Items(Dataset):
    """A data set of any items."""

    def __init__(self, item: object):
        self.item = item

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> object:
        return self.item


def levels() -> tuple[VAE, torch.Tensor]:
    """A model of eight values of 0..3, and rows for it."""
    torch.manual_seed(0)
    posterior = Conditional(nn.Linear(8, 4), Gaussian(), transform=Rescale(0, 3))
    likelihood = Conditional(nn.Linear(2, 32), Categorical(4), (8,))
    x = torch.randint(0, 4, (60, 8), generator=torch.Generator().manual_seed(0))
    return VAE(posterior, StandardNormal().build(2), likelihood), x


def inferring() -> object:
    with torch.inference_mode():
        return fit(own(), rows(), progress=False)


def of_other_weights(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.Adam([torch.zeros(1, requires_grad=True)])


@pytest.mark.parametrize(
    ("call", "error", "why"),
    [
        (lambda: fit(own(), rows(), Train()), TypeError, r"objective is a Train: write .*train=Train"),
        (lambda: fit(own(), rows(), "elbo"), TypeError, r"'elbo'.*Elbo\(\)"),
        (lambda: fit(own(), rows(), Elbo), TypeError, r"the class Elbo.*Elbo\(\)"),
        (lambda: fit(own(), rows(), train="long"), TypeError, r"train is 'long'"),
        (lambda: fit(own(), rows(), train=Train), TypeError, r"train is the class Train"),
        (lambda: fit(own(), rows(), seed="a"), ValueError, "seed is 'a'"),
        (lambda: fit(own(), rows(), seed=-1), ValueError, "seed is -1"),
        (lambda: fit(own().requires_grad_(False), rows()), ValueError, "requires_grad=False"),
        (inferring, RuntimeError, r"inference_mode\(\)"),
        (
            lambda: fit(own(), rows(), train=Train(optimiser=of_other_weights)),
            ValueError,
            "none of the model's weights",
        ),
        (lambda: fit(own(), rows(), train=Train(optimiser=lambda p: torch.optim.LBFGS(p))), ValueError, "LBFGS"),
        (lambda: fit(own(), rows()[:, :3], progress=False), ValueError, r"posterior .*shape \(1, 3\)"),
        (lambda: fit(own(), rows().reshape(-1, 2, 4)), ValueError, r"posterior .*shape \(1, 2, 4\)"),
        (lambda: fit(levels()[0], levels()[1] + 5), DataError, r"Categorical\(4\) is over .*0\.\.3.*largest 8"),
        (lambda: fit(*levels(), valid=levels()[1] + 5), DataError, r"0\.\.3.*smallest .* 0, the largest 8"),
        (lambda: fit(own(), DataLoader(TensorDataset(rows()))), TypeError, r"DataLoader.*loader\.dataset"),
        (lambda: fit(own(), Items({"x": rows()[0]})), TypeError, r"Items are dicts.*pairs \(x, label\)"),
        (lambda: fit(own(), Items((rows()[0], 1, 2))), TypeError, "Items are of 3 parts"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_wrong_with_an_argument_is_said_in_words_of_python(call, error, why):
    with pytest.raises(error, match=why) as found:
        call()
    text = str(found.value)
    assert "\n" not in text
    assert not any(word in text for word in ("DataSpec", "train.", "model.", "data."))


@pytest.mark.parametrize(
    ("optimiser", "why"),
    [
        (torch.optim.Adam([torch.zeros(1)]), r"lambda p: torch\.optim\.Adam\(p\)"),
        (
            "adamx",
            r"'adamx'.*did you mean 'adamax'.*adam, adamw, adamax, or another of torch, as torch\.optim\.RMSprop",
        ),
    ],
)
def test_an_optimiser_that_is_none_is_refused_with_what_to_write(optimiser, why):
    with pytest.raises(SpecError, match=why, check=naming("optimiser", optimiser)):
        Train(optimiser=optimiser)


def test_a_training_that_diverges_names_fields_as_python_has_them():
    model, x = levels()
    with pytest.raises(Diverged, match=r"Train\.lr"):
        fit(model, x, train=Train(epochs=2, precision="fp32", device="cpu", lr=1e30), progress=False)


def test_rows_that_a_trained_model_gives_no_probability_are_refused_in_words_of_python():
    model, x = levels()
    trained = fit(model, x, train=SHORT, progress=False)
    with pytest.raises(DataError, match=r"Categorical\(4\) is over .*0\.\.3.*largest 8", check=naming("data")):
        trained.evaluate(x + 5)


def test_a_share_of_the_rows_validates():
    trained = fit(own(), rows(), train=SHORT, valid=0.25, progress=False)
    assert (len(trained.data().train), len(trained.data().valid)) == (75, 25)


@pytest.mark.usefixtures("unchecked")
def test_a_torch_dataset_is_evaluated_as_its_rows_are():
    trained = fit(own(), rows(), train=SHORT, progress=False)
    expected = evaluate(trained.model, rows(20), samples=2)["elbo"].value
    for data in (TensorDataset(rows(20)), Pairs(rows(20))):
        assert evaluate(trained.model, data, samples=2)["elbo"].value == expected
        assert trained.evaluate(data, samples=2)["elbo"].value == expected
    with pytest.raises(TypeError, match=r"loader\.dataset"):
        evaluate(trained.model, DataLoader(TensorDataset(rows(20))))


def test_a_trained_run_is_printed_in_a_few_lines():
    text = str(fit(own(), rows(), train=SHORT, progress=False))
    assert text.splitlines() == [
        "TrainedRun(",
        "  model: VAE of 60 parameters",
        "  weights: best, epoch 2",
        "  data: the rows given, rows of shape (8,), 90 for training",
        "  folder: none",
        ")",
    ]


def test_weights_of_an_unknown_name_are_refused(tmp_path):
    with pytest.raises(SpecError, check=naming("weights", "firstt")):
        open_run(tmp_path, "firstt")


class Free:
    """An ELBO whose first nat of the rate is free, by no union of ours."""

    samples = 1
    gradient = Pathwise()

    def __call__(self, draw: Draw, ctx: StepContext | None = None) -> Terms:
        elbo = draw.log_w.mean(0)
        rate = (draw.latents[0].log_q - draw.latents[0].log_p).mean(0)
        return Terms(elbo + rate.clamp(max=1.0), {"elbo": elbo})


def test_an_objective_and_an_optimiser_of_ones_own():
    train = Train(
        epochs=2, precision="fp32", device="cpu", optimiser=lambda parameters: torch.optim.SGD(parameters, lr=0.01)
    )
    model = own()
    before = [weight.clone() for weight in model.parameters()]
    trained = fit(model, rows(), Free(), train, progress=False)
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    assert trained.evaluate(samples=4)["elbo"].value < 0
