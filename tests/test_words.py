"""Numbers of things in words."""

import pytest

from vaekit.words import counted


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (0, ("row",), "0 rows"),
        (1, ("row",), "1 row"),
        (1200, ("row",), "1,200 rows"),
        (1, ("row lacks", "rows lack"), "1 row lacks"),
        (2, ("row lacks", "rows lack"), "2 rows lack"),
    ],
)
def test_one_thing_is_no_several(number, words, said):
    assert counted(number, *words) == said
