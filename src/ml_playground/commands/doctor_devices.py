"""The doctor's look at the devices: their measured rates, what each "auto" becomes, and whether they compute alike."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ml_playground.commands.findings import Finding
from ml_playground.commands.parity import compare
from ml_playground.configuration.models import JobConfig, RuntimeSettings
from ml_playground.core.machine_rates import Rates
from ml_playground.core.torch_machine import Device, available_devices, devices_here, rates_of
from ml_playground.training.building import open_data, steps_of
from ml_playground.training.deciding import Decisions, decide_runtime, settled
from ml_playground.training.precision import device_for, look, runtime_for

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """Lines for people, figures for programs."""

    findings: list[Finding]
    figures: Mapping[str, Any]


def look_at(job: JobConfig | None, *, measure: bool, parity: bool) -> DeviceReport:
    """Everything about the devices.

    Args:
        job: Whose runtime is decided; none: that of a job without wishes.
        measure: Measure the rates whatever is kept of them.
        parity: Compare the first steps of a small model.

    Raises:
        ConfigError: The job asks for a device that is not there.
        DataError: The job's data are not prepared.
    """
    rates = {kind: rates_of(kind, again=measure) for kind in devices_here()}
    findings = [device_line(device, rates) for device in available_devices()]
    wanted = RuntimeSettings() if job is None else job.runtime
    decided = decide_runtime(wanted, look(device_for(wanted.device)), None) if job is None else decisions_of(job)
    findings += decision_lines(decided)
    figures: dict[str, Any] = {
        "rates": [asdict(rate) for rate in rates.values()],
        "runtime": {name: asdict(decision) for name, decision in decided.items()},
    }
    if parity:
        compared = compare(settled(wanted, decided))
        findings.append(compared.finding())
        figures["parity"] = asdict(compared)
    return DeviceReport(findings, figures)


def decisions_of(job: JobConfig) -> Decisions:
    """What a new run of this job would decide."""
    data = open_data(job)
    return runtime_for(job, data.facts, steps_of(job, data.micro_batches_per_epoch))


def device_line(device: Device, rates: Mapping[Any, Rates]) -> Finding:
    """A device and its measured rates."""
    rate = rates[device.name.partition(":")[0]]
    memory = "" if device.memory_bytes is None else f", {device.memory_bytes / GIB:.1f} GiB"
    half = "none" if rate.bfloat16_flops_per_s is None else f"{rate.bfloat16_flops_per_s / 1e9:,.0f}"
    measured = (
        f"measured: bfloat16 {half}, float32 {rate.float32_flops_per_s / 1e9:,.0f} GFLOP/s, "
        f"memory read at {rate.read_bytes_per_s / 1e9:,.0f} GB/s"
    )
    if not rate.undisturbed:
        measured += " or more, for other programs ran meanwhile"
    remedy = "" if rate.undisturbed else "mlp doctor --measure, when the machine is idle"
    if device.name == "mps":
        remedy = (
            "PYTORCH_ENABLE_MPS_FALLBACK=1 runs on the CPU what the Apple GPU lacks; mlp doctor --parity compares both"
        )
    return Finding("ok", device.name, f"{device.description}{memory}; {measured}", remedy)


def decision_lines(decided: Decisions) -> Iterator[Finding]:
    """Each setting of `[runtime]`, its value, and why."""
    for name, decision in decided.items():
        value = str(decision.value).lower() if isinstance(decision.value, bool) else decision.value
        yield Finding("ok", "runtime", f"{name} = {value}: {decision.reason}")
