"""A checkpoint from a stranger: refused in words, in a moment, without the memory that it asks for, without running anything."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.architecture.source import ROOT
from tests.fuzzing.hostile_runs import CASES

MOST_BYTES = 250 << 20
"""What a vocabulary of all characters takes; the least of the others asks for a hundred times more."""
MOST_SECONDS = 20


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """Of all, in one process of their own: torch is loaded once, and memory is that process's alone."""
    folder = tmp_path_factory.mktemp("hostile")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.fuzzing.hostile_runs", str(folder)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=600,
    )
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def test_whole_checkpoint_is_opened(outcomes: Mapping[str, Any]) -> None:
    """What the others are made of is none of them."""
    assert outcomes["whole"]["code"] == 0


@pytest.mark.parametrize("name", CASES)
def test_hostile_checkpoint_is_refused_in_words(outcomes: Mapping[str, Any], name: str) -> None:
    """Exit code 2, one message that says what is wrong, no traceback; soon, and without allocating what it says."""
    outcome = outcomes[name]
    assert (outcome["code"], "Traceback" in outcome["errors"]) == (2, False), outcome["errors"]
    assert outcome["errors"].startswith("error: ")
    assert CASES[name][1] in outcome["errors"]
    assert outcome["bytes"] < MOST_BYTES
    assert outcome["seconds"] < MOST_SECONDS
