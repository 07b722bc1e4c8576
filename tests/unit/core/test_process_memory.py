"""What a process holds in memory, from the operating system."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest

from ml_playground.core.process_memory import forget_peak, kept_freed_bytes, peak_bytes, resident_bytes

BLOCK = 64 << 20
STATUS = "Name:\tpython\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"


def test_memory_is_read_in_bytes(tmp_path: Path) -> None:
    """The system counts kilobytes."""
    (tmp_path / "status").write_text(STATUS)
    assert resident_bytes(tmp_path) == 1 << 20
    assert peak_bytes(tmp_path) == 2 << 20


def test_memory_unknown_where_the_system_does_not_say(tmp_path: Path) -> None:
    """A peak is still known from getrusage on such systems; what is held now is not."""
    assert resident_bytes(tmp_path) is None
    assert forget_peak(tmp_path / "nowhere") is False
    assert (peak_bytes(tmp_path) or 0) > 1 << 20


def test_forgotten_peak_begins_anew() -> None:
    """What was freed before no longer counts; what is taken after does."""
    # Fresh memory of the system, given back at once: what malloc hands out may have been held since an earlier test.
    with mmap.mmap(-1, BLOCK) as block:
        block.write(b"1" * BLOCK)
    if not forget_peak():
        pytest.skip("NOT TESTED: this system cannot forget a peak")
    held = resident_bytes() or 0
    assert abs((peak_bytes() or 0) - held) < BLOCK // 4
    with mmap.mmap(-1, BLOCK) as block:
        block.write(b"1" * BLOCK)
        assert (peak_bytes() or 0) - held > BLOCK * 3 // 4


RETAINING = """
from ml_playground.core.machine import retain_freed_memory
from ml_playground.core.process_memory import kept_freed_bytes
if not retain_freed_memory() or not kept_freed_bytes():
    raise SystemExit(77)
before = kept_freed_bytes()
block = bytearray(64 << 20)
held = kept_freed_bytes()
del block
assert held < before + (1 << 20), (before, held)
assert kept_freed_bytes() >= held + (63 << 20), (held, kept_freed_bytes())
"""


def test_freed_memory_that_the_allocator_keeps_is_known() -> None:
    """So that a copy can be made of what is there already."""
    done = subprocess.run([sys.executable, "-c", RETAINING], capture_output=True, check=False, text=True)
    if done.returncode == 77:
        pytest.skip("NOT TESTED: the allocator of this system cannot keep freed memory, or does not say how much")
    assert done.returncode == 0, done.stderr
    assert kept_freed_bytes() >= 0
