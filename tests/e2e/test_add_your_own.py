"""docs/add-your-own.md: its blocks are one plugin and its experiment, with a kind of its own in every family."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-your-own.md").read_text(encoding="utf-8")

# One process: each start of torch takes longer than all of the training.
ALL = """
import contextlib, io, json, sys
from ml_playground.cli import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = main(words)
    if code:
        sys.exit(f"{words} ended with {code}")
print(out.getvalue())
"""

LAWS = """
import math, sys, torch
from ml_playground.core.registry import load_object
from ml_playground.core.values import ModelContext
file = sys.argv[1]
own = lambda name: load_object(f"{file}:{name}")
source = own("build_source")(own("Counting")(up_to=250), None)
assert list(source.documents()) == list(source.documents()) and source.provenance() == source.provenance()
latin = own("LatinTokenizer")()
assert latin.decode(latin.encode("Öl 1")) == "Öl 1" and sum(latin.token_bytes()[i] for i in latin.encode("Öl 1")) == 5
facts = {"vocab_size": 7, "sequence_tokens": 5}
model = own("build_model")(own("Averager")(width=4), ModelContext(facts))
assert sum(p.numel() for p in model.parameters()) == own("cost")(own("Averager")(width=4), facts).parameters
ids = torch.randint(7, (3, 5))
decoder = model.decoder("float32")
state = decoder.new_state(3, 5)
steps = torch.stack([decoder.step(ids[:, at : at + 1], state) for at in range(5)], 1)
torch.testing.assert_close(steps, model(ids).detach())
padded = torch.cat([torch.zeros(3, 2, dtype=ids.dtype), ids], 1)
state = decoder.new_state(3, 7, starts=torch.full((3,), 2))
torch.testing.assert_close(decoder.step(padded, state), model(ids)[:, -1].detach())
optimizer = own("build_optimizer")(own("Sgd")(), model, torch.float32)
before = [p.detach().clone() for p in model.parameters()]
for gradient in optimizer.gradients.values(): gradient.fill_(math.nan)
optimizer.step(1.0, torch.ones(()))
assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
for length in (1, 2, 7, 1000):
    factor_at = own("build_schedule")(own("Triangle")(), length)
    assert all(0 <= factor_at(step) <= 1 for step in range(length))
"""


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page as a folder."""
    folder = tmp_path_factory.mktemp("page") / "experiment"
    folder.mkdir()
    blocks = re.findall(r"^```(python|toml)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    for name, language in (("plugin.py", "python"), ("config.toml", "toml")):
        (folder / name).write_text("\n\n".join(text for kind, text in blocks if kind == language), encoding="utf-8")
    return folder


def python(home: Path, code: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A program in a home of its own."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *words],
        cwd=home,
        env=os.environ | {"MLP_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_page_has_a_kind_for_every_family_and_they_train_together(experiment: Path, tmp_path: Path) -> None:
    """Prepared, trained, gone on with, evaluated and sampled, with nothing shipped among the kinds."""
    words = str(experiment)
    lines = [
        ["config", "check", words],
        ["prepare", words],
        ["train", words, "--set", "train.max_steps=20"],
        ["train", words, "--resume", "all_my_own"],
        ["evaluate", "all_my_own"],
        ["sample", "all_my_own", "--json"],
    ]
    done = python(tmp_path, ALL, json.dumps(lines))
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs" / "all_my_own").iterdir()
    job = json.loads((run / "config.json").read_text())
    assert job["plugins"] == [str(experiment / "plugin.py")]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [row["values"]["loss"] for row in rows if row["kind"] == "evaluation"]
    assert losses[-1] < losses[0]
    # Nothing is left in a folder that is its user's.
    assert sorted(path.name for path in experiment.iterdir()) == ["config.toml", "plugin.py"]


def test_page_kinds_keep_the_laws_that_it_names(experiment: Path, tmp_path: Path) -> None:
    """An example that breaks a law teaches it wrongly."""
    done = python(tmp_path, LAWS, str(experiment / "plugin.py"))
    assert (done.returncode, done.stderr) == (0, "")
