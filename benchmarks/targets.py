"""What we promise, as data: each figure with what must be reached and what we aim at, on one machine in one run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One promise."""

    must: float | None
    """What has to be reached; none: there is only an aim."""
    aim: float
    unit: str
    """`x` for a ratio; what stands behind the number."""
    lower: bool = False
    """Whether less is better."""

    def reached(self, value: float) -> str:
        """`aim`, `must` or `no`."""
        sign = -1 if self.lower else 1
        if sign * value >= sign * self.aim:
            return "aim"
        return "must" if self.must is not None and sign * value >= sign * self.must else "no"

    @property
    def words(self) -> tuple[str, str]:
        """Must and aim with their unit, as a table shows them."""
        bound = "<=" if self.lower else ">="
        must = "" if self.must is None else f"{bound} {self.must:.3g} {self.unit}"
        return must, f"{bound} {self.aim:.3g} {self.unit}"


TARGETS = {
    "train tiny against nanoGPT": Target(2.5, 4.0, "x"),
    "train baby against nanoGPT": Target(3.4, 4.2, "x"),
    "train gpt2 against nanoGPT": Target(3.8, 4.8, "x"),
    "train against the best peer": Target(1.2, 1.6, "x"),
    "fine-tune against trl": Target(1.3, 1.6, "x"),
    "fine-tune memory against trl": Target(1.0, 0.8, "of its memory", lower=True),
    "nanoGPT's loss in a share of its time": Target(0.1, 1 / 15, "of its wall time", lower=True),
    "loss at nanoGPT's time": Target(1.60, 1.52, "nats", lower=True),
    "budget against our best preset": Target(0.0, 0.02, "nats better"),
    "sample against transformers": Target(1.5, 1.5, "x"),
    "sample with the fast engine against transformers": Target(3.0, 3.0, "x"),
    "sample in a share of the memory limit": Target(None, 0.85, "of the limit"),
    "sample 16 sequences against one": Target(4.0, 8.0, "x"),
    "characters to ids": Target(180.0, 300.0, "MB/s"),
    "BPE to ids": Target(15.0, 25.0, "MB/s"),
    "mlp --help": Target(0.3, 0.15, "s", lower=True),
    "first step from process start": Target(4.0, 2.5, "s", lower=True),
    "standstill for a checkpoint of 1.5 GB": Target(0.2, 0.1, "s", lower=True),
    "problems solved to the letter": Target(0.95, 0.99, ""),
    "problems solved to the letter, LoRA": Target(0.90, 0.98, ""),
    "minutes to solve them": Target(10.0, 5.0, "minutes", lower=True),
    "killed and resumed with other bits": Target(0.0, 0.0, "runs", lower=True),
    "planned memory": Target(0.10, 0.05, "apart", lower=True),
    "95m preset at micro-batch 1": Target(4.0, 3.5, "GB beyond torch", lower=True),
    "monitoring": Target(0.02, 0.005, "of a step", lower=True),
}
"""The sentences of the project's performance page; a row of a table names one of them."""
