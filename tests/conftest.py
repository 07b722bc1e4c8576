"""Settings that hold for every test: one profile of Hypothesis, a home of its own for what commands write."""

import importlib
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.internal.conjecture.providers import HypothesisProvider
from hypothesis.internal.constants_ast import Constants

if TYPE_CHECKING:
    from ml_playground.core.registry import Family

# Beside the other tools' caches; where it would lie otherwise depends on the working directory.
set_hypothesis_home_dir(Path(__file__).parent.parent / ".cache" / "hypothesis")
settings.register_profile(
    "house",
    derandomize=True,
    deadline=None,
    max_examples=60,
    # How long examples take to draw depends on what else the machine does.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    database=None,
)
settings.load_profile("house")
# Hypothesis draws constants of whatever modules of ours are loaded, too. Those are the modules of the tests that came before in the
# same process: a law would be tried with other examples each time that the workers share the tests otherwise.
HypothesisProvider._local_constants = Constants()  # type: ignore[assignment]

# A shell that starts the tests in the background has Ctrl-C ignored, in them and in every program that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs, data and caches of a test lie in its own folder."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "home"))
    for name in ("ML_PLAYGROUND_OVERRIDES", "ML_PLAYGROUND_TRAIN_OVERRIDES", "ML_PLAYGROUND_SAMPLE_OVERRIDES"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


@pytest.fixture
def uncovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that a test starts are not measured by coverage, where a signal or a limit would meet it.

    A Ctrl-C in the midst of its lock leaves that taken, and the program hangs; a kill, or a limit on files, tears what it has written,
    and the report stumbles over that.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE")]:
        monkeypatch.delenv(name)


@pytest.fixture
def fresh_compiler() -> None:
    """The compiler of torch as it is at the start of a process: its counts and its graphs are those of all tests before."""
    importlib.import_module("torch._dynamo").reset()
    importlib.import_module("torch._dynamo.utils").counters.clear()


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """What a command sets for its whole process, which here goes on with other tests, holds for one test alone."""
    threads = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else None
    yield
    if (torch := sys.modules.get("torch")) is None:
        return
    if threads is not None:
        torch.set_num_threads(threads)
    # It imports torch's compiler, 2 s: not where nothing changed.
    if torch.are_deterministic_algorithms_enabled():
        torch.use_deterministic_algorithms(mode=False)
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(autouse=True)
def _kinds_as_they_were() -> Iterator[None]:
    """Kinds that a plugin brings are known to its whole process: one test would meet them in the lists and messages of another."""
    before = {name: dict(family._named) for name, family in _families().items()}
    yield
    for name, family in _families().items():
        family._named.clear()
        family._named.update(before.get(name, {}))


def _families() -> "Mapping[str, Family]":
    """Those of settings, once a test has imported them."""
    families = sys.modules.get("ml_playground.configuration.families")
    return {} if families is None else families.FAMILIES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of docs/reliability.md: how many faults were tried and survived, by kind."""
    faults = Counter[str]()
    for report in terminalreporter.stats.get("passed", []):
        for name, number in report.user_properties:
            if name.startswith("fault: "):
                faults[name.removeprefix("fault: ")] += number
    if faults:
        terminalreporter.section("faults tried and survived")
        for name, number in sorted(faults.items()):
            terminalreporter.write_line(f"{number:8,}  {name}")
        terminalreporter.write_line(f"{faults.total():8,}  in all")
