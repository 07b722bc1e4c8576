"""Measured figures are kept by what they hold for, and never stand in the way."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.machine import probe
from ml_playground.core.machine_rates import MOST_ROWS, Rates, identity_of, keep_rates, kept_rates, rates_file

RATES = Rates("cpu", 2, 186e9, 845e9, 50e9)
HERE = identity_of(probe())


def test_kept_rates_are_read_back_as_they_were(tmp_path: Path) -> None:
    """What was measured is what the next start sees, also where bfloat16 cannot be had."""
    file = tmp_path / "not" / "yet" / "machine.json"
    other = replace(HERE, device="Apple GPU")
    without = Rates("mps", 8, 4e12, None, 200e9)
    assert kept_rates(HERE, file) is None
    assert keep_rates(HERE, RATES, file)
    assert keep_rates(other, without, file)
    assert (kept_rates(HERE, file), kept_rates(other, file)) == (RATES, without)


def test_kept_rates_measured_again_replace_the_former(tmp_path: Path) -> None:
    """One identity, one row."""
    file = tmp_path / "machine.json"
    keep_rates(HERE, RATES, file)
    keep_rates(HERE, replace(RATES, threads=1), file)
    assert kept_rates(HERE, file) == replace(RATES, threads=1)
    assert len(json.loads(file.read_text())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"processor": "another"},
        {"features": ""},
        {"usable_cores": 0.5},
        {"physical_cores": 99},
        {"torch": "2.9"},
        {"device": "NVIDIA T4"},
        {"asked_threads": "3"},
    ],
    ids=str,
)
def test_rates_of_anything_else_are_not_ours(tmp_path: Path, change: dict[str, object]) -> None:
    """A home may be shared, a container resized, torch replaced: figures of then are not of now."""
    file = tmp_path / "machine.json"
    keep_rates(replace(HERE, **change), RATES, file)
    assert kept_rates(HERE, file) is None


@given(st.binary(max_size=200) | st.text(max_size=50).map(lambda text: json.dumps([text]).encode()))
def test_damaged_file_holds_no_rates_and_is_written_anew(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    """Whatever lies there, the machine is measured again and the file made whole."""
    file = tmp_path_factory.mktemp("home") / "machine.json"
    file.write_bytes(junk)
    assert kept_rates(HERE, file) is None
    assert keep_rates(HERE, RATES, file)
    assert kept_rates(HERE, file) == RATES


@pytest.mark.parametrize("value", [0, -1.0, "fast", None, float("inf")], ids=str)
def test_impossible_rate_in_the_file_is_refused(tmp_path: Path, value: object) -> None:
    """An edited figure would decide wrongly for ever: it is measured again."""
    file = tmp_path / "machine.json"
    keep_rates(HERE, RATES, file)
    rows = json.loads(file.read_text())
    rows[0]["rates"]["float32_flops_per_s"] = value
    file.write_text(json.dumps(rows))
    assert kept_rates(HERE, file) is None


def test_file_keeps_the_newest_rows_only(tmp_path: Path) -> None:
    """A home of a cluster sees many machines; the file stays small."""
    file = tmp_path / "machine.json"
    identities = [replace(HERE, processor=f"number {n}") for n in range(MOST_ROWS + 3)]
    for identity in identities:
        keep_rates(identity, RATES, file)
    kept = [identity for identity in identities if kept_rates(identity, file)]
    assert kept == identities[3:]


def test_place_that_cannot_be_written_is_answered_with_no(tmp_path: Path) -> None:
    """A run needs no cache."""
    (tmp_path / "file").touch()
    assert keep_rates(HERE, RATES, tmp_path / "file" / "machine.json") is False


def test_rates_lie_in_the_cache_of_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written outside of MLP_HOME."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    keep_rates(HERE, RATES)
    assert rates_file() == tmp_path / ".cache" / "machine.json"
    assert [path.name for path in (tmp_path / ".cache").iterdir()] == ["machine.json"]


def test_flops_per_s_of_bfloat16_falls_back_to_float32() -> None:
    """A device without bfloat16 computes in float32."""
    assert RATES.flops_per_s("bfloat16") == 845e9
    assert RATES.flops_per_s("float32") == 186e9
    assert replace(RATES, bfloat16_flops_per_s=None).flops_per_s("bfloat16") == 186e9


def test_reading_rates_loads_no_torch() -> None:
    """The planner and the queue ask for them before anything heavy is loaded."""
    code = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from ml_playground.core.machine import probe\n"
        "from ml_playground.core.machine_rates import identity_of, kept_rates\n"
        "kept_rates(identity_of(probe()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600)
    assert (done.returncode, done.stderr) == (0, "")
