"""The probe of processor, memory and allocator, on files as other machines have them."""

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.machine import (
    FEATURES,
    Processor,
    bytes_of_limit,
    cores_of_quota,
    features_of,
    has_native_bfloat16,
    probe,
    processor_from_cpuinfo,
    processor_from_sysctl,
    retain_freed_memory,
)

X86 = """processor\t: {n}
model name\t: AMD EPYC 9004
physical id\t: 0
core id\t\t: {core}
flags\t\t: fpu avx2 avx512f {more}
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd bf16 i8mm sve
"""
APPLE = """machdep.cpu.brand_string: Apple M2
hw.physicalcpu: 8
hw.memsize: 17179869184
hw.optional.neon: 1
hw.optional.arm.FEAT_BF16: 1
hw.optional.arm.FEAT_I8MM: 0
"""


def machine_root(root: Path, **files: str) -> Path:
    """A folder with /proc and /sys as given; `__` stands for a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def cpuinfo(more: str = "", cores: int = 2) -> str:
    """/proc/cpuinfo of a processor whose cores have two threads each."""
    return "\n".join(X86.format(n=n, core=n // 2, more=more) for n in range(2 * cores))


def test_cpuinfo_two_threads_a_core_counts_cores_once() -> None:
    """Matrix products gain nothing from the second thread of a core."""
    facts = processor_from_cpuinfo(cpuinfo(cores=3))
    assert (facts.name, facts.physical_cores) == ("AMD EPYC 9004", 3)
    assert features_of(facts.flags) == ("avx2", "avx512")


def test_cpuinfo_of_arm_knows_features_but_no_name() -> None:
    """ARM kernels print features alone."""
    facts = processor_from_cpuinfo(ARM)
    assert (facts.name, facts.physical_cores) == (None, None)
    assert features_of(facts.flags) == ("neon", "neon_bf16", "sve", "i8mm")


def test_cpuinfo_empty_is_nothing_known() -> None:
    """A file without what we look for is no failure."""
    assert processor_from_cpuinfo("") == Processor()


def test_sysctl_of_apple_reads_switches() -> None:
    """A feature of macOS is there when its switch is 1."""
    facts = processor_from_sysctl(APPLE)
    assert (facts.name, facts.physical_cores) == ("Apple M2", 8)
    assert features_of(facts.flags) == ("neon", "neon_bf16")


def test_sysctl_without_answer_is_nothing_known() -> None:
    """Neither Linux nor macOS: the probe goes on without."""
    assert processor_from_sysctl("") == Processor()


@pytest.mark.parametrize(("more", "native"), [("", False), ("avx512_bf16", True), ("amx_bf16", True)])
def test_native_bfloat16_follows_the_flags(tmp_path: Path, more: str, native: bool) -> None:
    """AVX-512 alone only emulates bfloat16, slower than float32."""
    assert has_native_bfloat16(machine_root(tmp_path, proc__cpuinfo=cpuinfo(more))) is native


@given(st.sets(st.sampled_from(sorted(FEATURES))))
def test_features_any_spelling_of_any_subset_is_found(names: set[str]) -> None:
    """Each name is found by each of its spellings, in any case, and no other is."""
    flags = [FEATURES[name][-1].upper() for name in names]
    assert set(features_of(flags)) == names


@pytest.mark.parametrize(
    ("text", "cores"),
    [("200000 100000\n", 2.0), ("50000 100000", 0.5), ("max 100000", None), ("-1 1", None), ("", None)],
)
def test_quota_is_cores(text: str, cores: float | None) -> None:
    """Both versions of control groups, with and without a limit."""
    assert cores_of_quota(text) == cores


@pytest.mark.parametrize(
    ("text", "limit"), [("1048576\n", 1 << 20), ("max", None), ("9223372036854771712", None), ("", None)]
)
def test_limit_is_bytes_unless_none(text: str, limit: int | None) -> None:
    """Version 1 writes nearly 2**63 where there is no limit."""
    assert bytes_of_limit(text) == limit


MEMINFO = "MemTotal:       8388608 kB\nMemFree: 1 kB\nMemAvailable:   4194304 kB\n"


def test_probe_container_of_cgroup_2_limits_cores_and_memory(tmp_path: Path) -> None:
    """The container's limits hold, also those of an outer group; its page cache counts as available."""
    machine = probe(
        machine_root(
            tmp_path,
            proc__cpuinfo=cpuinfo(),
            proc__meminfo=MEMINFO,
            proc__self__cgroup="0::/outer/inner\n",
            **{
                "sys__fs__cgroup__outer__cpu.max": "50000 100000",
                "sys__fs__cgroup__outer__inner__cpu.max": "max 100000",
                "sys__fs__cgroup__outer__inner__memory.max": "1073741824",
                "sys__fs__cgroup__outer__inner__memory.current": "1000000000",
                "sys__fs__cgroup__outer__inner__memory.stat": "anon 5\ninactive_file 100000000\nactive_file 200000000\n",
            },
        )
    )
    assert machine.usable_cores == 0.5
    assert (machine.memory_bytes, machine.available_bytes) == (1 << 30, (1 << 30) - 700_000_000)
    assert (machine.processor, machine.physical_cores) == ("AMD EPYC 9004", 2)


def test_probe_container_of_cgroup_1_limits_cores_and_memory(tmp_path: Path) -> None:
    """The older layout has a folder for each controller, and other file names."""
    machine = probe(
        machine_root(
            tmp_path,
            proc__meminfo=MEMINFO,
            proc__self__cgroup="4:memory:/box\n1:cpu:/box\n",
            **{
                "sys__fs__cgroup__cpu__box__cpu.cfs_quota_us": "25000",
                "sys__fs__cgroup__cpu__box__cpu.cfs_period_us": "100000",
                "sys__fs__cgroup__memory__box__memory.limit_in_bytes": "2147483648",
                "sys__fs__cgroup__memory__box__memory.usage_in_bytes": "2147483648",
            },
        )
    )
    assert machine.usable_cores == 0.25
    assert (machine.memory_bytes, machine.available_bytes) == (1 << 31, 0)


def test_probe_without_files_knows_what_python_knows(tmp_path: Path) -> None:
    """A system without /proc is described as far as it goes."""
    machine = probe(tmp_path)
    assert machine.physical_cores == machine.logical_cores >= machine.usable_cores >= 1
    assert machine.available_bytes is None


def test_probe_of_this_machine_is_plausible() -> None:
    """The real files of the machine the tests run on."""
    machine = probe()
    assert machine.processor
    assert machine.python == ".".join(map(str, sys.version_info[:3]))
    assert 0 < machine.usable_cores <= machine.logical_cores


ALLOCATE = """
import ctypes, json, sys
from ml_playground.core.machine import retain_freed_memory
def mapped():
    return sum(1 for line in open("/proc/self/maps"))
kept = retain_freed_memory()
size = 64 << 20
def faults():
    import resource
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
counts = []
for _ in range(3):
    before = faults()
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)
    counts.append(faults() - before)
sys.stdout.write(json.dumps([kept, counts]))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="only glibc has these switches")
def test_retain_freed_memory_spares_page_faults() -> None:
    """A block freed and asked for again is faulted in once, not each time."""
    done = subprocess.run([sys.executable, "-c", ALLOCATE], capture_output=True, text=True, check=True, timeout=600)
    kept, (first, *later) = json.loads(done.stdout)
    assert kept is True
    assert first > 10 * max(later)


def test_retain_freed_memory_answers_whether_it_took() -> None:
    """Elsewhere it does nothing, and says so."""
    assert retain_freed_memory() is hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
