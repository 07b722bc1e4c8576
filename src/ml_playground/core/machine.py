"""The probe: processor, memory, threads and allocator of this machine, without torch.

What limits a process is often not the machine but its container: cores and memory are those that the affinity mask and
the control groups leave, not those that are plugged in.
"""

import ctypes
import mmap
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")

# What torch makes use of in matrix products; /proc/cpuinfo and sysctl name them as on the right.
FEATURES = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "avx512_bf16": ("avx512_bf16",),
    "amx_bf16": ("amx_bf16",),
    "amx_int8": ("amx_int8",),
    "neon": ("asimd", "hw.optional.neon"),
    "neon_bf16": ("bf16", "hw.optional.arm.feat_bf16"),
    "sve": ("sve",),
    "i8mm": ("i8mm", "hw.optional.arm.feat_i8mm"),
}
NATIVE_BF16 = frozenset({"avx512_bf16", "amx_bf16", "neon_bf16"})

# malloc.h of glibc.
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use."""

    system: str
    """Linux, Darwin, Windows; with its release."""
    processor: str
    """Name of the processor, as its maker writes it."""
    features: tuple[str, ...]
    """The names of `FEATURES` that the processor has."""
    physical_cores: int
    """Cores that the processor has; threads of one core count once."""
    logical_cores: int
    """Hardware threads that the processor has."""
    usable_cores: float
    """Hardware threads that the affinity mask and the container's quota leave to this process."""
    memory_bytes: int | None
    """Memory of the machine or, if smaller, of the container; none: unknown."""
    available_bytes: int | None
    """What of it is free or can be freed at once; none: unknown."""
    python: str
    """Version of the interpreter."""


def probe(root: Path = ROOT) -> Machine:
    """Look at the machine; `root` is where /proc and /sys are found."""
    facts = _processor(root)
    logical_cores = os.cpu_count() or 1
    memory_bytes, available_bytes = _memory(root)
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=facts.name or platform.processor() or platform.machine(),
        features=features_of(facts.flags),
        physical_cores=facts.physical_cores or logical_cores,
        logical_cores=logical_cores,
        usable_cores=_usable_cores(root, logical_cores),
        memory_bytes=memory_bytes,
        available_bytes=available_bytes,
        python=platform.python_version(),
    )


def features_of(flags: Iterable[str]) -> tuple[str, ...]:
    """Our names of what the processor's flags say."""
    present = {flag.lower() for flag in flags}
    return tuple(name for name, aliases in FEATURES.items() if not present.isdisjoint(aliases))


def has_native_bfloat16(root: Path = ROOT) -> bool:
    """Whether the processor multiplies bfloat16 itself; without that, autocast is slower than float32."""
    return not NATIVE_BF16.isdisjoint(features_of(_processor(root).flags))


@dataclass(frozen=True, slots=True)
class Processor:
    """What the operating system says of the processor."""

    name: str | None = None
    flags: frozenset[str] = frozenset()
    physical_cores: int | None = None


def processor_from_cpuinfo(text: str) -> Processor:
    """Read /proc/cpuinfo; on ARM it has no name and no cores, only features."""
    names = re.findall(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    flags = re.findall(r"^(?:flags|Features)\s*:\s*(.*)$", text, flags=re.MULTILINE)
    sockets = re.findall(r"^physical id\s*:\s*(\d+)$", text, flags=re.MULTILINE)
    cores = re.findall(r"^core id\s*:\s*(\d+)$", text, flags=re.MULTILINE)
    return Processor(
        name=names[0].strip() if names else None,
        flags=frozenset(flags[0].split()) if flags else frozenset(),
        physical_cores=len(set(zip(sockets, cores, strict=False))) or None,
    )


def processor_from_sysctl(text: str) -> Processor:
    """Read what `sysctl machdep.cpu hw` prints on macOS: `name: value` lines; a feature is there when its value is 1."""
    values = dict(re.findall(r"^([\w.]+):\s*(.*)$", text, flags=re.MULTILINE))
    spelled = f"{values.get('machdep.cpu.features', '')} {values.get('machdep.cpu.leaf7_features', '')}"
    switches = {name for name, value in values.items() if value == "1"}
    cores = values.get("hw.physicalcpu", "")
    return Processor(
        name=values.get("machdep.cpu.brand_string"),
        flags=frozenset(spelled.split()) | switches,
        physical_cores=int(cores) if cores.isdigit() else None,
    )


def _processor(root: Path) -> Processor:
    cpuinfo = _read(root / "proc/cpuinfo")
    if cpuinfo is not None:
        return processor_from_cpuinfo(cpuinfo)
    return processor_from_sysctl(_sysctl())


def _sysctl() -> str:
    if sys.platform != "darwin":
        return ""
    reply = subprocess.run(
        ["/usr/sbin/sysctl", "machdep.cpu", "hw"], capture_output=True, text=True, check=False, timeout=10
    )
    return reply.stdout


def cores_of_quota(text: str) -> float | None:
    """Cores that a quota grants: `cpu.max` of cgroup 2, `200000 100000` for two, `max 100000` for no limit."""
    match = re.fullmatch(r"(\d+) (\d+)", text.strip())
    return int(match[1]) / int(match[2]) if match else None


def bytes_of_limit(text: str) -> int | None:
    """A memory limit of a control group: a number, or `max`; cgroup 1 writes nearly 2**63 for no limit."""
    limit = int(text) if text.strip().isdigit() else None
    return limit if limit is not None and limit < 1 << 60 else None


def _groups(root: Path, controller: str) -> list[Path]:
    """Folders of this process's control groups, innermost first: a limit of any of them holds."""
    found: list[Path] = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if names else "")
        own = mount / path.lstrip("/")
        found += [folder for folder in (own, *own.parents) if folder.is_relative_to(mount)]
    return found


def _usable_cores(root: Path, logical_cores: int) -> float:
    # Only Linux has an affinity mask to ask for.
    mask = getattr(os, "sched_getaffinity", None)
    limits: list[float] = [len(mask(0)) if mask else logical_cores]
    for folder in _groups(root, "cpu"):
        period = (_read(folder / "cpu.cfs_period_us") or "").strip()
        text = _read(folder / "cpu.max") or f"{(_read(folder / 'cpu.cfs_quota_us') or '').strip()} {period}"
        quota = cores_of_quota(text)
        if quota is not None:
            limits.append(quota)
    return min(limits)


def _memory(root: Path) -> tuple[int | None, int | None]:
    """Total and available bytes, the container's where they are fewer."""
    kilobytes = dict(re.findall(r"^(\w+):\s+(\d+) kB$", _read(root / "proc/meminfo") or "", flags=re.MULTILINE))
    if "MemTotal" not in kilobytes:
        total = re.search(r"^hw\.memsize: (\d+)$", _sysctl(), flags=re.MULTILINE)
        return (int(total[1]) if total else None), None
    total_bytes, available_bytes = (int(kilobytes[name]) * 1024 for name in ("MemTotal", "MemAvailable"))
    for folder in _groups(root, "memory"):
        limit = bytes_of_limit(_read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes") or "")
        used = bytes_of_limit(_read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes") or "")
        if limit is None or used is None:
            continue
        # The group's page cache counts as used, but the kernel gives it back before it refuses an allocation.
        stat = dict(re.findall(r"^(\w+) (\d+)$", _read(folder / "memory.stat") or "", flags=re.MULTILINE))
        reclaimable = int(stat.get("inactive_file", 0)) + int(stat.get("active_file", 0))
        total_bytes = min(total_bytes, limit)
        available_bytes = min(available_bytes, max(0, limit - used + reclaimable))
    return total_bytes, available_bytes


def _read(path: Path) -> str | None:
    """The text of a file that need not be there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def has_glibc() -> bool:
    """Whether this process runs on glibc, whose allocator can be told what to do."""
    return sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")


def retain_freed_memory() -> bool:
    """Make glibc keep freed memory mapped; answers whether it did, and does nothing elsewhere.

    Large buffers are otherwise unmapped when freed and faulted in page by page when asked for again, each step: this
    costs 16,000 page faults for 64 MiB (docs/LOG.md) and a fifth of a training step of small models. The process keeps the
    largest memory it ever had.

    Source: mallopt(3).
    """
    if not has_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(*option) == 1 for option in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)))


def give_back_freed_memory() -> None:
    """Let glibc unmap what it keeps of freed memory (malloc_trim(3)); does nothing elsewhere."""
    if has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


@dataclass(frozen=True, slots=True)
class FaultCost:
    """What it costs to fault memory in, which an allocator that gives memory back pays each time."""

    size_bytes: int
    """How much memory was written."""
    first_s: float
    """Seconds to write it for the first time, the kernel clearing page after page."""
    again_s: float
    """Seconds to write it once more."""


def fault_cost(size_bytes: int = 64 << 20) -> FaultCost:
    """Write fresh memory twice."""
    with mmap.mmap(-1, size_bytes) as block:
        start = (ctypes.c_char * size_bytes).from_buffer(block)
        times_s = [time.perf_counter()]
        for value in (1, 2):
            ctypes.memset(start, value, size_bytes)
            times_s.append(time.perf_counter())
        # The map cannot be closed while something points into it.
        del start
    began_s, between_s, ended_s = times_s
    return FaultCost(size_bytes, between_s - began_s, ended_s - between_s)
