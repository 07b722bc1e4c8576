"""Feeds hostile files to every reader of the package for as long as is asked, and prints how many were tried.

The readers, the law and the changes are those of tests/property/test_parsers_fuzzed.py. An input that breaks the law is kept under
.cache/fuzz; put it into tests/regression/test_found_inputs.py once its reader is mended.
"""

import argparse
import hashlib
import os
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from random import Random

from tests.fuzzing.mutation import mutated
from tests.fuzzing.targets import Target, all_targets, breach

ROOT = Path(__file__).parent.parent
KEPT = ROOT / ".cache" / "fuzz"

# Far above what any input needs, far below what a hostile one could ask for: what is allocated beyond it is a MemoryError.
MOST_ADDRESS_SPACE = 16 << 30
ROUND = 50
"""Inputs of one reader before the next one's turn."""
TOLD_EVERY_S = 30.0


def main() -> int:
    """Fuzz until the time is up; the exit code is 1 when an input broke the law."""
    options = _options()
    os.environ["MLP_HOME"] = tempfile.mkdtemp(prefix="mlp-fuzz-")
    warnings.simplefilter("error")
    made = Path(tempfile.mkdtemp(prefix="mlp-fuzz-"))
    targets = [target for target in all_targets(made) if options.target in target.name]
    if not targets:
        print(f"no reader is called {options.target!r}", file=sys.stderr)
        return 2
    resource.setrlimit(resource.RLIMIT_AS, (MOST_ADDRESS_SPACE, MOST_ADDRESS_SPACE))
    tried, found = _fuzz(targets, options.seconds, options.seed)
    width = max(len(name) for name in tried)
    for name, count in sorted(tried.items()):
        print(f"{name:<{width}}  {count:>12,}")
    print(f"{'inputs tried':<{width}}  {sum(tried.values()):>12,}")
    print(f"{'broke the law':<{width}}  {found:>12,}")
    return 1 if found else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, in all (60)")
    parser.add_argument("--target", default="", help="only readers whose name holds this")
    parser.add_argument("--seed", type=int, default=None, help="of the changes; none: another one each time")
    return parser.parse_args()


def _fuzz(targets: list[Target], seconds: float, seed: int | None) -> tuple[Counter[str], int]:
    """Inputs tried by reader, and how many broke the law."""
    seed = int.from_bytes(os.urandom(4), "little") if seed is None else seed
    print(f"{len(targets)} readers for {seconds:g} s, --seed {seed}", flush=True)
    random = Random(seed)
    tried: Counter[str] = Counter({target.name: 0 for target in targets})
    known: set[str] = set()
    started_s = told_s = time.monotonic()
    while time.monotonic() - started_s < seconds:
        for target in targets:
            for _ in range(ROUND):
                content = mutated(target.seeds, random)
                tried[target.name] += 1
                if (how := breach(target, content)) and _is_new(target, how, known):
                    _keep(target, content, how)
            if time.monotonic() - started_s >= seconds:
                break
        if time.monotonic() - told_s >= TOLD_EVERY_S:
            told_s = time.monotonic()
            print(f"{told_s - started_s:6.0f} s  {sum(tried.values()):>12,} inputs  {len(known)} found", flush=True)
    return tried, len(known)


def _is_new(target: Target, how: str, known: set[str]) -> bool:
    """Whether this kind of breach is the first: by its reader and the last place in its traceback."""
    places = [line.strip() for line in how.splitlines() if line.startswith("  File")]
    kind = f"{target.name} {places[-1] if places else how[:40]}"
    fresh = kind not in known
    known.add(kind)
    return fresh


def _keep(target: Target, content: bytes, how: str) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    file = KEPT / f"{target.name.replace(' ', '')}-{hashlib.sha256(content).hexdigest()[:12]}"
    file.write_bytes(content)
    print(f"\n{target.name}: {file.relative_to(ROOT)} ({len(content)} bytes)\n{how}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
