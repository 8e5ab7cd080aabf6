"""What `vaekit data` says of the columns of a table."""

import numpy as np


def test_each_column_is_described(cli, cli_json, tmp_path):
    rng = np.random.default_rng(0)
    lines = [f"{n},{rng.choice(['red', 'green', ''])},{rng.normal():.3f},cm" for n in range(300)]
    (tmp_path / "t.csv").write_text("id,colour,size,unit\n" + "\n".join(lines) + "\n")
    facts = cli_json(f"data {tmp_path / 't.csv'}")
    colour, size = facts["columns"]
    assert (colour["name"], colour["kind"], colour["likelihood"]) == ("colour", "binary", "bernoulli")
    assert set(colour["categories"]) == {"red", "green"}
    assert 0.1 < colour["missing"] < 0.6
    assert size["kind"] == "real"
    assert size["lowest"] < size["highest"]
    notices = " ".join(facts["notices"])
    assert "id" in notices
    assert "unit" in notices
    code, out, _ = cli(f"data {tmp_path / 't.csv'}")
    assert code == 0
    assert "colour" in out
    assert "note: left out: 'id'" in out
