"""`data.context_to`: the parts of a model that depend on the context, and those that do not."""

from itertools import chain, combinations, product

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import csv

from naming import naming
from vaekit.cli.main import main
from vaekit.data.spec import CONTEXT_PARTS
from vaekit.errors import ConfigError, DataError
from vaekit.runs import fit, open_run, run
from vaekit.runs.factory import build_model, initialise_from_data, open_data
from vaekit.runs.validation import check_parts, samples_are_conditional

SUBSETS = list(chain.from_iterable(combinations(CONTEXT_PARTS, n) for n in (1, 2, 3)))
FEW = ("model.latent=2", "model.encoder.widths=[8]", "model.decoder.widths=[8]", "data.context=[a,sex]")
PRIORS = {
    "standard_normal": "standard_normal",
    "mixture": "{kind: mixture, components: 3}",
    "flow": "{kind: flow, transforms: 1, hidden: [4]}",
    "vamp": "{kind: vamp, components: 3}",
}


def table() -> pa.Table:
    rng = np.random.default_rng(0)
    a, sex = rng.normal(size=60), rng.choice(["f", "m"], 60)
    return pa.table({"a": a, "x": a + rng.normal(size=60), "y": rng.normal(size=60), "sex": sex})


def built(*settings):
    opened, data = open_data(run(*settings), table())
    model = build_model(opened, data.schema)
    initialise_from_data(model, data, opened)
    with torch.no_grad():  # what is added to a prior by a context begins at 0, and a bias alone decides at first
        for part in model.parameters():
            part.add_(0.1 * torch.randn_like(part))
    return model, data.train.inputs(slice(0, 5))


def depends(of, context) -> bool:
    """Whether a density of three samples and five rows is another for other rows of context."""
    return not torch.equal(of(context), of(context.flip(0) + 0.5))


@pytest.mark.parametrize(
    ("to", "prior"), [pair for pair in product(SUBSETS, PRIORS) if pair != (("prior",), "standard_normal")]
)
def test_the_parts_that_are_named_depend_on_the_context_and_no_others(to, prior):
    torch.manual_seed(0)
    model, given = built(*FEW, f"model.prior={PRIORS[prior]}", f"data.context_to=[{','.join(to)}]")
    x, context = given["x"], given["context"]
    z = torch.randn(3, 5, 2)
    conditional = "prior" in to and prior != "standard_normal"
    assert depends(lambda c: model.encode(x, c).posteriors[0].log_prob(z), context) == ("encoder" in to)
    assert depends(lambda c: model.decode((z,), c).log_prob(x), context) == ("decoder" in to)
    assert depends(lambda c: model.prior(c).log_prob(z), context) == conditional
    draw = model.draw(x, 3, context=context)
    torch.testing.assert_close(draw.log_w, model.log_joint(x, [draw.latents[0].z], context) - draw.log_qz)
    draw.log_w.sum().backward()
    assert all(part.grad is not None for part in model.parameters())
    settings = run(*FEW, f"model.prior={PRIORS[prior]}", f"data.context_to=[{','.join(to)}]")
    many = 9 * context.repeat(40, 1)
    generated = [model.generate(200, generator=torch.Generator().manual_seed(0), context=c) for c in (many, -many)]
    assert torch.equal(*generated) != samples_are_conditional(settings)


def test_the_encoder_alone_of_a_hierarchy():
    torch.manual_seed(0)
    groups = "model.groups={kind: dense, latent: [2, 2], widths: [8]}"
    settings = ("model.kind=hierarchical", groups, "data.context=[a,sex]")
    model, given = built(*settings, "data.context_to=encoder")
    z = (torch.randn(3, 5, 2), torch.randn(3, 5, 2))
    assert depends(lambda c: model.encode(given["x"], c).posteriors[0].log_prob(z[0]), given["context"])
    assert not depends(lambda c: model.log_joint(given["x"], z, c), given["context"])
    with pytest.raises(ConfigError, check=naming("data.context_to", ("encoder", "prior"))):
        check_parts(run(*settings, "data.context_to=[encoder,prior]"))


def test_rows_are_encoded_without_a_context_that_the_encoder_is_not_given(tmp_path, capsys):
    rows, words = table(), ("data.context=[a,sex]", "epochs=1", *FEW[:3])
    csv.write_csv(rows, tmp_path / "t.csv")
    csv.write_csv(rows.select(["x", "y"]), tmp_path / "less.csv")
    for to in ("decoder", "encoder"):
        folder = tmp_path / to
        fit(run(str(tmp_path / "t.csv"), *words, f"data.context_to={to}", run_dir=str(folder)), progress=False)
        with pytest.raises(SystemExit) as left:
            main(["encode", str(folder), str(tmp_path / "less.csv"), "--out", str(tmp_path / f"{to}.npy")])
        assert (left.value.code == 0) == (to == "decoder")
        with pytest.raises(SystemExit) as left:
            main(["sample", str(folder), "--given", "sex=f", "--out", str(tmp_path / f"{to}-x.npy")])
        assert (left.value.code == 0) == (to == "decoder")
    assert "samples do not depend on the context" in " ".join(capsys.readouterr().err.split())
    trained = open_run(tmp_path / "decoder")
    np.testing.assert_array_equal(np.load(tmp_path / "decoder.npy"), trained.encode(rows))
    np.testing.assert_array_equal(trained.encode(rows.select(["x", "y"])), trained.encode(rows))
    with pytest.raises(DataError, check=naming("context")):
        trained.evaluate(rows.select(["x", "y"]), samples=2)


def test_a_context_of_which_nothing_comes_is_refused():
    with pytest.raises(ConfigError, check=naming("data.context_to", ("prior",))):
        check_parts(run(*FEW, "data.context_to=prior"))
    with pytest.raises(ConfigError, check=naming("data.context_to", ("decoder",))):
        check_parts(run("data.context_to=decoder"))
    with pytest.raises(ConfigError, check=naming("data.context_to", [])):
        run("data.context_to=[]")
