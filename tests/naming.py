"""What an error is to name, for `pytest.raises(kind, check=naming(field, value))`."""

from collections.abc import Callable

from vaekit.errors import VaekitError


def naming(field: str, *value: object) -> Callable[[VaekitError], bool]:
    """True of an error that names this field, and this value unless it is left off; it says what another one names."""
    wanted = (field, *value)

    def names(error: VaekitError) -> bool:
        found = (error.field, error.value)[: len(wanted)]
        assert found == wanted, f"the error names {found}, not {wanted}: {error}"
        return True

    return names
