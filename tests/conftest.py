"""What every test shares: shapes checked at run time, and guards of the state that vaekit promises to leave alone."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from hypothesis import settings
from jaxtyping import config, install_import_hook

# Before anything of vaekit is imported: from here on its annotations, shapes included, are checked on every call. That
# takes three times as long where models are small, so `make test` sets this for tests of whole runs and of commands.
if os.environ.get("VAEKIT_ANNOTATIONS") != "unchecked":
    install_import_hook("vaekit", "typechecker.check")

settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

NO_DATA = "VAEKIT_DATA is not set"


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_data") and not os.environ.get("VAEKIT_DATA"):
        pytest.skip(NO_DATA)


# Files that take longest come first, so that no worker is left alone with one of them in the end.
LONGEST = (
    "test_processes",
    "test_process",
    "test_scikit_learn",
    "test_resume",
    "test_page",
    "test_attacks",
    "test_onnx",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "VAEKIT_DATA" in str(report.longrepr)]
    if skipped:
        terminalreporter.write_line(f"skipped for want of VAEKIT_DATA: {len(skipped)}")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same global random state, whatever ran before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def single_precision() -> Iterator[None]:
    """`train.precision=auto` is fp32 here on every machine, so that tests can compare closely what should be equal."""
    from vaekit.training.engine import selection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "bf16_gain", lambda: 0.0)
        yield


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked, as outside of the tests: a wrong type reaches what refuses it in words."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """For modules of many small tensor operations: beside other workers, more threads only wait for one another."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def globals_untouched() -> Callable[[], AbstractContextManager[None]]:
    """`with globals_untouched(): ...` fails if the block changes any global state of torch."""
    import torch
    from torch.distributions import Distribution

    def state() -> dict[str, object]:
        return {
            "random state": torch.get_rng_state().tolist(),
            "thread count": torch.get_num_threads(),
            "grad mode": torch.is_grad_enabled(),
            "default dtype": torch.get_default_dtype(),
            "validation of distributions": Distribution._validate_args,
        }

    @contextmanager
    def unchanged() -> Iterator[None]:
        before = state()
        yield
        after = state()
        changed = [name for name in before if before[name] != after[name]]
        assert not changed, f"torch's global {', '.join(changed)} changed"

    return unchanged


@pytest.fixture
def zuko():
    """The zuko package; importing it switches off validation for all of torch.distributions, so that is put back."""
    from torch.distributions import Distribution

    validation = Distribution._validate_args
    import zuko

    Distribution.set_default_validate_args(validation)
    return zuko
