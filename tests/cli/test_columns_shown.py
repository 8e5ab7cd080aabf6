"""What `vaekit data` says of the columns of a table."""

import numpy as np
from PIL import Image


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
