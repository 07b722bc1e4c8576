"""What this process holds in memory, and the most it held: read from the operating system, without torch."""

import ctypes
import re
import sys
from pathlib import Path

PROC = Path("/proc/self")


class _MallInfo(ctypes.Structure):
    """What glibc's mallinfo2(3) answers."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    ]


def resident_bytes(proc: Path = PROC) -> int | None:
    """Memory that this process holds at this moment; None where the system does not say."""
    return _of_status(proc, "VmRSS")


def peak_bytes(proc: Path = PROC) -> int | None:
    """The most memory that this process held since it began, or since `forget_peak`; None where the system does not say."""
    peak = _of_status(proc, "VmHWM")
    if peak is not None or sys.platform == "win32":
        return peak
    import resource  # noqa: PLC0415 - Windows has none

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Bytes on macOS, kilobytes elsewhere (getrusage(2)).
    return used if sys.platform == "darwin" else used * 1024


def forget_peak(proc: Path = PROC) -> bool:
    """Let the peak begin anew at what is held now; answers whether the system can (Linux; proc(5), clear_refs)."""
    try:
        (proc / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def kept_freed_bytes() -> int:
    """What this process has freed and its allocator keeps for what is asked for next; 0 where only glibc 2.33 could say."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if ask is None:
        return 0
    ask.restype = _MallInfo
    return int(ask().fordblks)


def _of_status(proc: Path, field: str) -> int | None:
    """A line of /proc/self/status, in bytes."""
    try:
        text = (proc / "status").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(rf"^{field}:\s*(\d+) kB$", text, flags=re.MULTILINE)
    return int(match[1]) * 1024 if match else None
