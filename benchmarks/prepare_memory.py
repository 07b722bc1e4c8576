"""Peak memory and speed of preparing 20 MB of text, each tokenizer in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

BYTES = 20_000_000

PROGRAM = """
import json, resource, sys, time
from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.data_pipeline.preparer import prepare
source = 'prepare.source={kind="text_file", path="' + sys.argv[1] + '"}'
job = load("python_stdlib", sets=[source, 'prepare.tokenizer={kind="' + sys.argv[2] + '"}', "prepare.split_by=position"]).job
began = time.perf_counter()
prepare(job.prepare, Deps())
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "torch": "torch" in sys.modules,
}))
"""


def stdlib_text() -> str:
    """The interpreter's own sources, over and over."""
    import sysconfig

    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    once = "".join(file.read_text(encoding="utf-8", errors="ignore") for file in files)
    return (once * (BYTES // len(once) + 1))[:BYTES]


def main() -> None:
    """One line a tokenizer."""
    print("| tokenizer | MB/s | peak memory, MB | torch imported |")
    print("|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        text.write_text(stdlib_text(), encoding="utf-8")
        for kind in ("byte", "char", "byte_bpe"):
            reply = subprocess.run(
                [sys.executable, "-c", PROGRAM, str(text), kind],
                env=os.environ | {"MLP_HOME": folder},
                capture_output=True,
                text=True,
                check=True,
            )
            figures = json.loads(reply.stdout.splitlines()[-1])
            speed = text.stat().st_size / 1e6 / figures["seconds"]
            print(f"| {kind} | {speed:.1f} | {figures['peak_mb']:.0f} | {figures['torch']} |")


main()
