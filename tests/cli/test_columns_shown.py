"""What `vaekit data` says of the columns of a table."""

import numpy as np
from PIL import Image
from scipy import sparse

from vaekit.data.sound import write_wav


def test_each_column_is_described(cli, cli_json, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{n},{rng.choice(['red', 'green', ''])},{rng.normal():.3f},{n % 5 + 1},cm" for n in range(300)]
    (tmp_path / "t.csv").write_text("id,colour,size,grade,unit\n" + "\n".join(lines) + "\n")
    facts = cli_json(f"data {tmp_path / 't.csv'}")
    colour, size, grade = facts["columns"]
    assert (grade["kind"], grade["categories"]) == ("ordinal", ["1", "2", "3", "4", "5"])
    assert (colour["name"], colour["kind"], colour["likelihood"]) == ("colour", "binary", "bernoulli")
    assert set(colour["categories"]) == {"red", "green"}
    assert 0.1 < colour["missing"] < 0.6
    assert size["kind"] == "real"
    assert size["lowest"] < size["highest"]
    notices = " ".join(facts["notices"])
    assert "id" in notices
    assert "unit" in notices
    code, out, _ = cli(
        f"data {tmp_path / 't.csv'} data.context=size data.context_to=decoder --out {tmp_path / 't.png'}"
    )
    assert code == 0
    assert "context  size; given to decoder" in out
    assert f"Wrote {tmp_path / 't.png'}" in out
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.width > 500
    assert cli(f"data {tmp_path / 't.csv'} --out {tmp_path / 't.png'}")[0] == 2
    assert cli(f"data --out {tmp_path / 'other.png'}")[0] == 2
    assert "colour" in out
    assert "5: 1 to 5" in out
    assert "note: left out: 'id'" in out


def test_ends_of_a_narrow_range_are_told_apart(cli, tmp_path):
    numbers = 1e8 + np.random.default_rng(0).normal(size=60)
    (tmp_path / "t.csv").write_text("a,b\n" + "".join(f"{a:.4f},{a % 1:.3f}\n" for a in numbers))
    code, out, _ = cli(f"data {tmp_path / 't.csv'}")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("a "))
    low, _, high = line.split()[2:5]
    assert abs(float(low) - numbers.min()) < 0.01
    assert abs(float(high) - numbers.max()) < 0.01


def test_ranges_are_of_numbers_as_they_are_stored(cli_json, tmp_path):
    rng = np.random.default_rng(0)
    many = np.abs(rng.normal(size=60)) * (np.arange(60) % 3)
    tiny = 1e-20 * rng.normal(size=60)
    rows = zip([f"{n * 0.7 % 1:.2f}" for n in range(60)], many.tolist(), tiny.tolist(), strict=True)
    (tmp_path / "t.csv").write_text("few,many,tiny\n" + "".join(f"{a},{b!r},{c!r}\n" for a, b, c in rows))
    few, zeros, small = cli_json(f"data {tmp_path / 't.csv'}")["columns"]
    assert (few["lowest"], few["highest"]) == (0.0, 0.9)
    assert zeros["lowest"] == 0.0
    assert np.abs(tiny / small["lowest"] - 1).min() < 1e-6


ALL = "data.test_fraction=0 data.valid_fraction=0 limit.valid=3"


def test_columns_of_an_array_are_described_by_its_numbers(cli, cli_json, tmp_path):
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(5, 2, 90), rng.normal(size=90) * (np.arange(90) % 4 == 0)], 1)
    x[::9, 0] = np.nan
    np.save(tmp_path / "a.npy", x)
    facts = cli_json(f"data {tmp_path / 'a.npy'} {ALL}")
    for column, cells in zip(facts["columns"], x.T, strict=True):
        found = [column[name] for name in ("lowest", "highest", "mean", "deviation")]
        wanted = [one(cells) for one in (np.nanmin, np.nanmax, np.nanmean, np.nanstd)]
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=2e-6)
        assert (column["kind"], column["missing"]) == ("real", np.isnan(cells).mean())
        assert column["zeros"] == (cells == 0).sum() / (~np.isnan(cells)).sum()
    _, out, _ = cli(f"data {tmp_path / 'a.npy'} {ALL}")
    assert "scaling  each column less its mean, by its deviation" in out
    assert out.count("11.1%") == 1
    assert out.count("74.4%") == 1


def test_of_many_columns_their_spread_is_shown(cli, tmp_path):
    rng = np.random.default_rng(0)
    counts = sparse.csr_array(rng.poisson(0.2, (80, 70)))
    sparse.save_npz(tmp_path / "counts.npz", counts)
    code, out, _ = cli(f"data {tmp_path / 'counts.npz'} {ALL}")
    assert code == 0
    lines = {line[:14].strip(): line[14:].split() for line in out.splitlines()}
    assert "70 columns, 80 training rows" in out
    dense = counts.toarray()
    shares = np.quantile((dense == 0).mean(0), [0, 0.05, 0.5, 0.95, 1])
    assert lines["zeros"] == [f"{share:.1%}" for share in shares]
    assert lines["total of a row"] == [f"{total:.6g}" for total in np.quantile(dense.sum(1), [0, 0.05, 0.5, 0.95, 1])]
    assert "missing" not in lines


def test_channels_pictures_and_recordings_are_described(cli, cli_json, tmp_path):
    rng = np.random.default_rng(0)
    steps = rng.normal([0, 10, -3], size=(40, 12, 3))
    np.save(tmp_path / "steps.npy", steps)
    facts = cli_json(f"data {tmp_path / 'steps.npy'} data.layout=sequence {ALL}")
    assert [one["name"] for one in facts["columns"]] == ["channel 0", "channel 1", "channel 2"]
    np.testing.assert_allclose([one["lowest"] for one in facts["columns"]], steps.min((0, 1)), rtol=1e-6)
    grey = rng.integers(0, 256, (30, 8, 8)).astype(np.uint8)
    np.save(tmp_path / "grey.npy", grey)
    code, out, _ = cli(f"data {tmp_path / 'grey.npy'} {ALL}")
    assert code == 0
    assert "pixels   0 to 255" in out
    assert f"{grey.mean():.6g}" in out
    (tmp_path / "sounds").mkdir()
    for take in range(6):
        write_wav(tmp_path / "sounds" / f"{take}.wav", rng.uniform(-0.5, 0.5, 4000).astype(np.float32), 8000)
    facts = cli_json(f"data {tmp_path / 'sounds'}")
    assert facts["kind"] == "spectrogram of audio, as an image"
    assert [one["name"] for one in facts["columns"]] == ["mel bands"]
    assert "as a sequence" in cli_json(f"data {tmp_path / 'sounds'} data.layout=sequence")["kind"]
