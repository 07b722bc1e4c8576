"""What a report shows of a classifier; nothing of a run's files is markup, and nothing is asked from outside."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from ml_playground.core.classification import Classification
from ml_playground.core.error_handling import RunError
from ml_playground.core.run_folder import RunFolder
from ml_playground.monitoring.report import write_report
from ml_playground.monitoring.report_images import data_section, evaluation_sections, read_evaluations
from tests.fakes.run_folder import bare_run

PIXELS = bytes(range(6))
MISTAKE = {
    "number": 1234,
    "name": "<b>cat",
    "predicted": "dog",
    "probability": 0.987,
    "nats": 4.2,
    "pixels": base64.b64encode(PIXELS).decode(),
}


def record(**changes: Any) -> Classification:
    """Two classes, one mistake."""
    plain: dict[str, Any] = {
        "checkpoint": "there",
        "step": 1500,
        "weights": "raw",
        "split": "test",
        "images": 10,
        "loss": 0.25,
        "accuracy": 0.9,
        "low": 0.596,
        "high": 0.982,
        "baselines": {
            "commonest class": {"accuracy": 0.6, "loss": 0.7},
            "nearest mean": {"accuracy": 0.8, "loss": None},
        },
        "classes": ["<b>cat", "dog"],
        "confusion": [[6, 1], [0, 3]],
        "channels": 1,
        "height": 2,
        "width": 3,
        "mistakes": [MISTAKE],
    }
    return Classification.model_validate(plain | changes)


def test_sections_show_accuracy_confusions_and_the_mistake_as_an_image() -> None:
    """With baselines beside it, and how sure both are."""
    page = evaluation_sections([record()])
    assert "test images: 90.00 % recognised" in page
    assert "between 59.60 % and 98.20 % with 95 % confidence; weights of step 1,500." in page
    assert re.search(r"commonest class</th><td class=\"number\">60.00 %</td><td class=\"number\">0.7000", page)
    assert re.search(r"nearest mean</th><td class=\"number\">80.00 %</td><td class=\"number\">-", page)
    assert (
        '<td class="number right" style="--share:0.857">6</td><td class="number wrong" style="--share:0.143">1</td>'
        in page
    )
    assert "85.71 %" in page
    assert "100.00 %" in page
    assert 'width="72" height="48" alt="&lt;b&gt;cat taken for dog"' in page
    assert "98.70 %, no. 1,234" in page
    assert "<b>cat" not in page
    (address,) = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert base64.b64decode(address).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"mistakes": []}, "No image was mistaken."),
        ({"confusion": []}, "The worst mistakes"),
        ({"mistakes": [MISTAKE | {"pixels": "AAAA"}]}, ""),
        ({"mistakes": [MISTAKE | {"pixels": "no base64!"}]}, ""),
    ],
)
def test_sections_leave_out_what_cannot_be_shown(changes: dict[str, Any], shown: str) -> None:
    """Pixels that are no image of that size, tables that nobody could read."""
    page = evaluation_sections([record(**changes)])
    assert shown in page
    assert ("<img" in page) == ("mistakes" not in changes)
    assert ('class="confusion"' in page) == ("confusion" not in changes)


def run_with(folder: Path, content: str) -> RunFolder:
    """A run with one evaluation."""
    run = bare_run(folder)
    run.evaluations.mkdir()
    (run.evaluations / "test.json").write_text(content)
    return run


def test_report_of_a_run_holds_its_evaluations(tmp_path: Path) -> None:
    """In one file that opens without a network."""
    run = run_with(tmp_path, record().model_dump_json())
    assert read_evaluations(run) == [record()]
    page = write_report(run).read_text(encoding="utf-8")
    assert "90.00 % recognised" in page
    assert re.findall(r'src="(?!data:)', page) == []


@pytest.mark.parametrize(
    "content",
    ["{", "[]", json.dumps({"schema_version": 2}), record().model_dump_json().replace('"images":10', '"images":-1')],
)
def test_report_of_a_damaged_evaluation_names_the_file(tmp_path: Path, content: str) -> None:
    """A report that left it out in silence would look whole."""
    run = run_with(tmp_path, content)
    with pytest.raises(RunError, match=r"test\.json is not what `mlp evaluate` writes there: .*; delete it"):
        write_report(run)


def test_data_section_of_images_counts_them_by_class() -> None:
    """Where the books of a text show tokens."""
    books = {
        "ledger": {
            "splits": {"train": {"by_class": [3, 5]}, "val": {"by_class": [1, 1]}},
            "dropped": {"duplicate": {"by_class": [1, 0]}},
            "copies": 1,
            "contradicting_copies": 0,
        },
        "epoch": {"train": {"trained": 8}, "val": {"trained": 2}},
    }
    page = data_section({"data": books})
    row = "".join(f'<td class="number">{number}</td>' for number in (8, 8, 3, 5))
    assert f"<tr><th>train</th>{row}</tr>" in page
    assert "Copies of earlier images: 1 (dropped), of another class: 0." in page
    assert data_section({}) == ""
