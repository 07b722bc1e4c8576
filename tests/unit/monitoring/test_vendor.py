"""What is vendored is what was vendored."""

import hashlib
import json

from ml_playground.monitoring.report import UPLOT


def test_uplot_files_have_the_recorded_checksums() -> None:
    """A changed byte in a minified file would be found by nobody."""
    vendor = json.loads((UPLOT / "vendor.json").read_text())
    assert vendor["version"] == "1.6.32"
    assert {name: hashlib.sha256((UPLOT / name).read_bytes()).hexdigest() for name in vendor["sha256"]} == vendor[
        "sha256"
    ]
    assert {path.name for path in UPLOT.iterdir()} == {*vendor["sha256"], "vendor.json"}
