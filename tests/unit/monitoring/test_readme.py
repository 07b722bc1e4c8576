"""The README's example is true."""

from pathlib import Path

import pytest

from ml_playground.monitoring import reader
from tests.fakes.run_folder import bare_run, put_result, put_rows, put_status


def test_readme_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """What a stranger copies from it works."""
    run = bare_run()
    put_status(run)
    put_result(run)
    put_rows(run, 20)
    readme = (Path(reader.__file__).parent / "README.md").read_text(encoding="utf-8")
    example = readme.partition("```python\n")[2].partition("```")[0]
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "completed 0.45\nreport.html\n"
