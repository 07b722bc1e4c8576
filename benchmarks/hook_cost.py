"""What watching costs: seconds per step with status and metrics against without, steps timed in one process.

The two alternate in blocks of steps, so that a drift of the machine hits both alike.
"""

import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from ml_playground.configuration.loading import load
from ml_playground.core.deps import Deps
from ml_playground.core.run_folder import RunFolder
from ml_playground.core.values import Progress
from ml_playground.data_pipeline.preparer import prepare
from ml_playground.training.hook_protocols import HookContext, StepEvent, StepReading

INTERVAL = 10
BLOCKS = 200


def main() -> None:
    """Time `on_step` of both hooks over blocks of ten steps; compare with the step of the tiny model."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLP_HOME"] = home
        shape = [
            'prepare.tokenizer={kind="char"}',
            "prepare.source.max_files=60",
            "prepare.split_by=position",
            "data.sequence_tokens=64",
        ]
        shape += ["data.micro_batch_rows=12", 'model={kind="gpt", n_layer=4, n_head=4, n_embd=128}']
        shape += ["train.max_steps=220", "train.evaluation_batches=1", 'optimizer={kind="adamw"}']
        job = load("python_stdlib", sets=shape).job
        prepare(job.prepare, Deps())
        from ml_playground.training.building import build_hooks
        from ml_playground.training.engine import run_job

        trained = RunFolder(run_job(job, Deps()).run)
        rows = [json.loads(line) for line in trained.metrics.read_text().splitlines()]
        speeds = [row["timing"]["targets_per_s"] for row in rows if row["timing"].get("targets_per_s")]
        step_s = 64 * 12 / statistics.median(speeds[2:])
        watching = {name: job.hooks[name] for name in ("metrics", "status")}
        run = RunFolder(Path(home) / "runs" / "x" / "y")
        run.path.mkdir(parents=True)
        context = HookContext(job, run, Deps().clock, "token", BLOCKS * INTERVAL)
        hooks = build_hooks(job.model_copy(update={"hooks": watching}), context)
        seconds = []
        for block in range(BLOCKS):
            began = time.perf_counter()
            for step in range(block * INTERVAL + 1, (block + 1) * INTERVAL + 1):
                readings = [StepReading(step - i, 3.0, 1.0, 1e-3, 768.0) for i in range(INTERVAL)]
                known = readings if step % INTERVAL == 0 else ()
                event = StepEvent(Progress(step, BLOCKS * INTERVAL, 0.1, step * 768.0, step * step_s), known, 1e4)
                for hook in hooks.values():
                    hook.on_step(event)
            seconds.append((time.perf_counter() - began) / INTERVAL)
    cost_s = statistics.median(seconds)
    print("| step of the tiny model, ms | status and metrics, microseconds a step | share |")
    print("|---|---|---|")
    print(f"| {step_s * 1e3:.1f} | {cost_s * 1e6:.0f} | {cost_s / step_s:.2%} |")


main()
