"""What the doctor finds, and what it advises."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from ml_playground.cli import main
from ml_playground.commands import doctor, doctor_devices
from ml_playground.configuration.models import RuntimeSettings
from ml_playground.core.installation import Requirement
from ml_playground.core.machine import probe
from ml_playground.core.machine_rates import Rates, identity_of, keep_rates
from ml_playground.core.torch_machine import Device

BLOCK_TORCH = """
import importlib.abc, sys
class NoTorch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise {error}
sys.meta_path.insert(0, NoTorch())
"""
RUN = """
from ml_playground.cli import main
sys.exit(main(["doctor", *sys.argv[1:]]))
"""


def run_doctor(before: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the doctor in a process of its own, with some code before it."""
    return subprocess.run(
        [sys.executable, "-c", before + RUN, *args], capture_output=True, text=True, check=False, timeout=600
    )


def test_doctor_here_is_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """The environment that runs the tests is whole."""
    assert main(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "ok       dependencies" in shown
    assert "measured: bfloat16" in shown
    assert "0 problems.\n" in shown


def test_doctor_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """For programs: the same findings, and the machine."""
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["blocked"] is False
    assert {finding["subject"] for finding in report["findings"]} >= {"python", "package", "disk", "memory", "cpu"}
    assert report["machine"]["usable_cores"] > 0


def test_doctor_shows_each_decision_with_its_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to read code to learn why a run goes as it goes."""
    assert main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["runtime"].keys() == RuntimeSettings.model_fields.keys()
    assert all(decision["reason"] for decision in report["runtime"].values())
    lines = [finding["text"] for finding in report["findings"] if finding["subject"] == "runtime"]
    for name, decision in report["runtime"].items():
        assert any(line.startswith(f"{name} = ") and line.endswith(decision["reason"]) for line in lines)
    assert report["rates"][-1]["float32_flops_per_s"] > 0


def test_doctor_of_an_experiment_decides_for_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is set stays as set; what depends on the length of the run is decided too."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 200)
    sets = [f"prepare.source={{kind='text_file', path='{text}'}}", "prepare.tokenizer={kind='char'}"]
    words = [*(word for value in (*sets, "prepare.split_by=position") for word in ("--set", value))]
    assert main(["prepare", "python_stdlib", *words]) == 0
    capsys.readouterr()
    assert main(["doctor", "python_stdlib", *words, "--set", "runtime.dtype=float32", "--json"]) == 0
    runtime = json.loads(capsys.readouterr().out)["runtime"]
    assert runtime["dtype"] == {"value": "float32", "reason": "as set"}
    assert runtime["compile"]["reason"].startswith("would save about ")
    assert runtime["activation_checkpointing"]["reason"].startswith(("the plan takes ", "the memory of this device is"))


def test_doctor_of_an_experiment_that_is_not_prepared_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its vocabulary decides how much there is to compute."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    assert main(["doctor", "python_stdlib"]) == 2
    assert "mlp prepare python_stdlib" in capsys.readouterr().err


def test_doctor_settings_without_an_experiment_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """They would change nothing."""
    assert main(["doctor", "--set", "runtime.dtype=float32"]) == 2
    assert "--set and --config change an experiment; name one: mlp doctor EXPERIMENT --set" in capsys.readouterr().err


def test_doctor_measures_again_when_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A figure taken while something else ran would stay for ever."""
    monkeypatch.setenv("MLP_HOME", str(tmp_path))
    keep_rates(identity_of(probe()), Rates("cpu", 1, 1e9, 2e9, 3e9))
    assert main(["doctor"]) == 0
    assert "measured: bfloat16 2, float32 1 GFLOP/s, memory read at 3 GB/s\n" in capsys.readouterr().out
    assert main(["doctor", "--measure"]) == 0
    assert "float32 1 GFLOP/s" not in capsys.readouterr().out


def test_device_line_of_a_disturbed_measurement_says_so() -> None:
    """Figures that are too low would otherwise be taken for the machine's."""
    rates = Rates("cpu", 1, 1e9, 2e9, 3e9, undisturbed=False)
    line = doctor_devices.device_line(Device("cpu", "2 threads", None), {"cpu": rates})
    assert line.text.endswith("memory read at 3 GB/s or more, for other programs ran meanwhile")
    assert line.remedy == "mlp doctor --measure, when the machine is idle"


def test_device_line_of_an_apple_gpu_advises_the_fallback() -> None:
    """What the Apple GPU lacks would end the run."""
    device = Device("mps", "Apple GPU", None)
    line = doctor_devices.device_line(device, {"mps": Rates("mps", 8, 4e12, None, 2e11)})
    assert line.text == "Apple GPU; measured: bfloat16 none, float32 4,000 GFLOP/s, memory read at 200 GB/s"
    assert line.remedy.startswith("PYTORCH_ENABLE_MPS_FALLBACK=1 runs on the CPU what the Apple GPU lacks")


def test_doctor_parity_compares_the_first_steps(capsys: pytest.CaptureFixture[str]) -> None:
    """On a machine without a GPU: bfloat16 against float32, both on the CPU."""
    assert main(["doctor", "--parity", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    compared = report["parity"]
    assert len(compared["losses"]) == len(compared["reference"]) == 3
    assert compared["losses"] != compared["reference"]
    (finding,) = (finding for finding in report["findings"] if finding["subject"] == "parity")
    assert finding["level"] == "ok"


def test_doctor_without_torch_reports_it() -> None:
    """The doctor must work best where nothing else does."""
    done = run_doctor(BLOCK_TORCH.format(error="ModuleNotFoundError('No module named torch', name='torch')"))
    assert (done.returncode, done.stderr) == (2, "")
    assert "problem  devices        ml_playground.commands.doctor_devices needs the package 'torch'" in done.stdout
    assert "-> make setup" in done.stdout


def test_doctor_with_broken_torch_reports_the_reason() -> None:
    """A library of the wrong build fails to load with an OSError."""
    done = run_doctor(BLOCK_TORCH.format(error="OSError('libcudart.so: cannot open')"))
    assert done.returncode == 2
    assert "torch does not load: libcudart.so: cannot open" in done.stdout


def test_doctor_decoy_on_search_path_is_named(tmp_path: Path) -> None:
    """A stale package of our name hides ours from the next process that starts."""
    (tmp_path / "ml_playground").mkdir()
    (tmp_path / "ml_playground" / "__init__.py").touch()
    done = run_doctor(f"import sys, ml_playground.cli; sys.path.insert(0, {str(tmp_path)!r})")
    assert done.returncode == 2
    assert f"{tmp_path / 'ml_playground'} is another package named ml_playground" in done.stdout
    assert f"-> pip uninstall ml_playground, or take {tmp_path} off the search path" in done.stdout


def test_doctor_decoy_in_working_directory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m` looks in the working directory first."""
    (tmp_path / "ml_playground").mkdir()
    (tmp_path / "ml_playground" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    assert main(["doctor"]) == 2
    assert f"{tmp_path / 'ml_playground'} is another package" in capsys.readouterr().out


def test_doctor_unwritable_home_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that cannot write its folder has nowhere to go."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLP_HOME", str(tmp_path / "file" / "below"))
    assert main(["doctor"]) == 2
    shown = capsys.readouterr().out
    assert f"nothing can be written to {tmp_path / 'file' / 'below'}: Not a directory" in shown
    assert "choose another folder with MLP_HOME" in shown


def test_package_of_several_folders_is_a_problem(tmp_path: Path) -> None:
    """Two portions of one namespace mix the modules of two versions."""
    module = SimpleNamespace(__file__=None, __path__=["/a/ml_playground", "/b/ml_playground"])
    (finding,) = doctor.package([str(tmp_path)], module)
    assert (finding.level, finding.remedy) == ("problem", "uninstall all but one of them")
    assert finding.text == "its modules come from several folders: /a/ml_playground, /b/ml_playground"


def test_package_with_a_marker_is_a_problem(tmp_path: Path) -> None:
    """A marker file makes ours a regular package, which hides plugins' portions."""
    module = SimpleNamespace(__file__="/a/ml_playground/__init__.py", __path__=["/a/ml_playground"])
    (finding,) = doctor.package([str(tmp_path)], module)
    assert (finding.level, finding.remedy) == ("problem", "delete that file; ours has none")


def test_versions_stale_metadata_is_a_warning(tmp_path: Path) -> None:
    """The metadata of an editable installation stay behind when the checkout moves on."""
    (tmp_path / "src" / "ml_playground").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "ml-playground"\nversion = "99.0"\n')
    (finding,) = doctor.versions(tmp_path / "src" / "ml_playground")
    assert (finding.level, finding.remedy) == ("warning", "make setup")
    assert finding.text.endswith("but the checkout is 99.0")


def test_misfits_names_what_is_missing_and_what_is_out_of_range() -> None:
    """The remedy is the requirement itself, ready for pip."""
    wanted = [Requirement("numpy", ">=1", None), Requirement("numpy", "<1", None), Requirement("no-such", ">=2", None)]
    (old_name, old_text), (missing_name, missing_text) = doctor.misfits(wanted)
    assert (old_name, missing_name) == ("numpy<1", "no-such>=2")
    assert old_text.endswith("is installed, <1 is needed")
    assert missing_text == "no-such is not installed"


def test_doctor_outside_an_environment_finds_what_is_not_installed(tmp_path: Path) -> None:
    """Our modules are on the path, but nobody installed them: metadata and entry points are missing."""
    libraries = tmp_path / "libraries"
    libraries.mkdir()
    for entry in Path(typer.__file__).parent.parent.iterdir():
        if not entry.name.startswith("ml_playground") and entry.suffix != ".pth":
            (libraries / entry.name).symlink_to(entry)
    python = Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    search_path = f"{Path(doctor.__file__).parents[2]}{os.pathsep}{libraries}"
    done = subprocess.run(
        [python, "-c", "import sys; sys.argv[0] = 'mlp'" + RUN],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        env=os.environ | {"PYTHONPATH": search_path},
    )
    assert done.returncode == 2
    assert "warning  environment    no virtual environment is active" in done.stdout
    assert "problem  version        ml-playground is not installed, only found on the path" in done.stdout
    assert "dependencies" not in done.stdout


def test_resources_more_threads_than_usable_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share a core wait for each other."""
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    machine = replace(probe(), usable_cores=2.0)
    found = {finding.subject: finding for finding in doctor.resources(machine)}
    assert found["threads"].text == "OMP_NUM_THREADS = 64 is more than the 2 threads that this process may use"
    assert found["threads"].remedy == "unset OMP_NUM_THREADS"


def test_resources_scarce_memory_is_a_warning() -> None:
    """Less than torch itself takes."""
    machine = replace(probe(), memory_bytes=1 << 30, available_bytes=1 << 29)
    found = {finding.subject: finding for finding in doctor.resources(machine)}
    assert (found["memory"].level, found["memory"].text) == ("warning", "0.5 of 1.0 GiB available")


def test_resources_unknown_memory_is_said() -> None:
    """Not every system tells."""
    machine = replace(probe(), memory_bytes=None, available_bytes=None)
    found = {finding.subject: finding for finding in doctor.resources(machine)}
    assert found["memory"].text == "unknown on this system"


def test_storage_of_this_machine_names_free_space(tmp_path: Path) -> None:
    """A folder that does not exist yet is judged by where it would be made."""
    (finding,) = doctor.storage(tmp_path / "not" / "yet")
    assert finding.text.startswith(f"{tmp_path / 'not' / 'yet'} is writable, ")
    assert not any(tmp_path.iterdir())
