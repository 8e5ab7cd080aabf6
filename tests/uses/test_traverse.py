"""Lines through the latent space decode to what the model decodes at these z."""

import numpy as np
import pytest
import torch
from PIL import Image

from naming import naming
from vaekit.cli.main import main
from vaekit.errors import NotApplicable, SpecError
from vaekit.runs import open_run
from vaekit.uses import interpolate, manifold, traverse

TINY = "train.epochs=2 limit.train=96 limit.valid=40 model.latent=3 model.encoder.widths=[16] model.decoder.widths=[16]"


def call(*words):
    with pytest.raises(SystemExit) as leaving:
        main([str(word) for word in words])
    return leaving.value.code


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "digits"
    assert call("train", "digits", *TINY.split(), "--run-dir", folder) == 0
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    return open_run(folder)


def decoded(trained, z):
    with torch.no_grad():
        return trained.model.decode((torch.as_tensor(z, dtype=torch.float32),)).mean.numpy()


def test_one_dimension_changes_and_the_others_stay(trained):
    found = traverse(trained, [2, 0], steps=5, reach=2.0, row=3)
    assert found.dimensions == (2, 0)
    np.testing.assert_allclose(found.values, [-2, -1, 0, 1, 2])
    code = trained.encode()[3]
    for line, dimension in zip(found.x, found.dimensions, strict=True):
        z = np.tile(code, (5, 1))
        z[:, dimension] = found.values
        np.testing.assert_allclose(line, decoded(trained, z), atol=1e-5)


def test_by_default_the_largest_kl_comes_first_and_the_others_are_0(trained):
    found = traverse(trained, steps=3)
    assert sorted(found.dimensions) == [0, 1, 2]
    assert (np.diff(found.kl) <= 0).all()
    np.testing.assert_allclose(found.x[:, 1], decoded(trained, np.zeros((3, 3))), atol=1e-5)


def test_a_manifold_is_a_grid_over_two_dimensions(trained, folder, tmp_path):
    found = manifold(trained, (2, 0), steps=5, row=3)
    probabilities = torch.distributions.Normal(0.0, 1.0).cdf(torch.from_numpy(found.values))
    np.testing.assert_allclose(probabilities, np.linspace(0.02, 0.98, 5), atol=1e-5)
    z = trained.encode()[3]
    z[[2, 0]] = found.values[4], found.values[1]
    np.testing.assert_allclose(found.x[3, 4], decoded(trained, z[None])[0], atol=1e-5)
    by_kl = traverse(trained, steps=2).dimensions
    assert manifold(trained, steps=2, spacing="linear", reach=2.0).dimensions == by_kl[:2]
    assert call("manifold", folder, "--dimensions", 2, 0, "--steps", 4, "--out", tmp_path / "m.png") == 0
    with Image.open(tmp_path / "m.png") as picture:
        assert picture.width > 4 * 48
    with pytest.raises(SpecError, check=naming("dimensions", 3)):
        manifold(trained, (0, 3))


def test_a_way_begins_and_ends_at_the_codes_of_its_rows(trained):
    codes = trained.encode()
    linear = interpolate(trained, 4, 9, steps=5)
    np.testing.assert_allclose(linear, decoded(trained, np.linspace(codes[4], codes[9], 5)), atol=1e-5)
    spherical = interpolate(trained, 4, 9, steps=5, path="spherical")
    np.testing.assert_allclose(spherical[[0, -1]], decoded(trained, codes[[4, 9]]), atol=1e-5)


def test_a_great_circle_keeps_the_length(trained, monkeypatch):
    seen = []
    decode = trained.model.decode
    monkeypatch.setattr(trained.model, "decode", lambda z, context=None: seen.append(z[0]) or decode(z, context))
    interpolate(trained, 4, 9, steps=5, path="spherical")
    lengths = seen[-1].norm(dim=1)
    torch.testing.assert_close(lengths, torch.linspace(float(lengths[0]), float(lengths[-1]), 5))


def test_what_there_is_not_is_refused(trained):
    for call_it, field in (
        (lambda: traverse(trained, [3]), "dimensions"),
        (lambda: traverse(trained, row=10**6), "row"),
        (lambda: traverse(trained, steps=1), "steps"),
        (lambda: traverse(trained, reach=float("nan")), "reach"),
        (lambda: interpolate(trained, 0, -1), "row"),
        (lambda: interpolate(trained, 0, 1, steps=0), "steps"),
    ):
        with pytest.raises(SpecError, check=naming(field)):
            call_it()


def test_there_is_no_line_through_discrete_codes(tmp_path):
    settings = ["model.posterior={kind: categorical, classes: 4}", "objective.gradient=score"]
    assert call("train", "digits", *TINY.split(), *settings, "--run-dir", tmp_path / "run") == 0
    with pytest.raises(NotApplicable, match="discrete"):
        traverse(open_run(tmp_path / "run"))


def test_the_commands(folder, tmp_path, capsys):
    assert call("traverse", folder, "--out", tmp_path / "all.png", "--steps", 4) == 0
    assert call("traverse", folder, "--dimensions", 1, "--steps", 4, "--out", tmp_path / "one.png") == 0
    with Image.open(tmp_path / "all.png") as every, Image.open(tmp_path / "one.png") as one:
        assert every.height > 2 * one.height
    assert call("interpolate", folder, "--rows", 2, 5, "--steps", 6, "--out", tmp_path / "way.npy") == 0
    assert np.load(tmp_path / "way.npy").shape == (6, 1, 8, 8)
    capsys.readouterr()
    for words, said in (
        (["--dimensions", 7], "dimension 7"),
        (["--row", -1], "row -1"),
        (["--steps", 1], "steps is 1"),
    ):
        assert call("traverse", folder, *words, "--out", tmp_path / "bad.png") == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "bad.png").exists()


def test_tables_have_no_such_picture(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(f"{k % 7},{k * k % 11}" for k in range(60)))
    assert call("train", tmp_path / "t.csv", *TINY.split(), "--run-dir", tmp_path / "run") == 0
    assert call("traverse", tmp_path / "run", "--out", tmp_path / "t.png") == 2
    assert "give .csv" in capsys.readouterr().err
    assert call("traverse", tmp_path / "run", "--steps", 3, "--out", tmp_path / "lines.csv") == 0
    assert (tmp_path / "lines.csv").read_text().splitlines()[0] == "a,b"
