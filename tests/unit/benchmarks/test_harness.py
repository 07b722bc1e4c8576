"""The harness of the benchmarks: a table is data, judged by its targets, and lands in the documents."""

import importlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
PRESETS = BENCHMARKS.parent / "src/ml_playground/configuration/presets"


def of(name: str) -> Any:
    """A module of benchmarks/, found as its own scripts find it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(str(BENCHMARKS))
        return importlib.import_module(name)


MODULES = (
    "tables",
    "targets",
    "paired",
    "run_all",
    "write_docs",
    "shapes",
    "budget_mode",
    "budget_fit",
    "budget_training",
)
tables, targets, paired, run_all, write_docs, shapes, budget_mode, budget_fit, budget_training = map(of, MODULES)


@given(st.sampled_from(sorted(targets.TARGETS)), st.floats(0, 1000), st.floats(0, 1000))
def test_target_better_value_never_reaches_less(name: str, one: float, other: float) -> None:
    """Whatever the direction, a better figure is judged at least as well."""
    target = targets.TARGETS[name]
    worse, better = sorted((one, other), reverse=target.lower)
    order = ["no", "must", "aim"]
    assert order.index(target.reached(worse)) <= order.index(target.reached(better))


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_target_aim_is_at_least_as_hard_as_must(name: str) -> None:
    """Reaching the aim includes the must."""
    target = targets.TARGETS[name]
    assert (
        target.must is None
        or target.reached(target.aim) == "aim" != target.reached(target.must)
        or (target.must == target.aim)
    )


cells = st.one_of(st.text(), st.integers(), st.floats(allow_nan=False), st.booleans(), st.none())
rows = st.builds(
    tables.Row,
    st.lists(cells, min_size=2, max_size=2),
    st.sampled_from(["", *targets.TARGETS]),
    st.none() | st.floats(0, 9),
)


@given(st.lists(rows, max_size=4), st.lists(st.text(), max_size=2), st.lists(st.text(), max_size=2))
def test_table_through_json_is_the_same(rows: list[Any], notes: list[str], problems: list[str]) -> None:
    """What is kept is what was measured."""
    table = tables.Table("t", "T", ["a", "b"], rows, notes, problems)
    again = tables.Table.from_json(json.loads(json.dumps(table.as_json())))
    assert again.as_json() == table.as_json()
    assert again.markdown() == table.markdown()


def test_table_with_a_target_shows_must_aim_and_verdict() -> None:
    """A reader sees at once whether the promise is kept; rows without a promise stay empty."""
    judged = tables.Row(["--help", 0.2], "mlp --help", 0.2)
    text = tables.Table("t", "T", ["command", "s"], [judged, tables.Row(["runs", 12_345.0])], ["a note"]).markdown()
    assert text.splitlines() == [
        "**T**",
        "",
        "| command | s | must | aim | met |",
        "| --- | --- | --- | --- | --- |",
        "| --help | 0.2 | <= 0.3 s | <= 0.15 s | must |",
        "| runs | 12,345 |  |  |  |",
        "",
        "a note",
    ]


def test_in_turn_alternates_and_leaves_out_what_fails(tmp_path: Path) -> None:
    """One peer that is broken must not cost the figures of the others."""
    log = tmp_path / "log"
    good = f"open({str(log)!r}, 'a').write(NAME); print('noise'); print('{{\"x\": 2}}')"
    programs = [
        paired.Program("a", ["-c", good.replace("NAME", "'a'")]),
        paired.Program("bad", ["-c", "raise SystemExit('no such thing')"]),
        paired.Program("b", ["-c", good.replace("NAME", "'b'")]),
    ]
    turns = paired.in_turn(programs, rounds=2)
    assert log.read_text() == "abab"
    assert turns.of("b", "x") == [2, 2]
    assert turns.figures.keys() == {"a", "b"}
    assert turns.problems == ["bad ended with 1:\nno such thing\n"]


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=5))
def test_pair_of_a_series_with_itself_is_one(figures: list[float]) -> None:
    """A ratio of neighbours, not of medians far apart."""
    pair = paired.Pair.of(figures, figures)
    assert (pair.ratio, pair.lowest, pair.highest) == (1, 1, 1)


def test_docs_marked_tables_are_replaced_and_others_stay() -> None:
    """A result without some table leaves the former one standing; a table keeps the indent of its markers."""
    text = "x\n<!-- bench one -->\nold\n<!-- end -->\n  <!-- bench two -->\n  kept\n  <!-- end -->\n"
    once = write_docs.with_tables(text, {"one": "new"})
    assert once == text.replace("old", "\nnew\n")
    assert write_docs.with_tables(once, {"one": "new"}) == once
    assert "  <!-- bench two -->\n\n  a\n  b\n\n  <!-- end -->" in write_docs.with_tables(text, {"two": "a\nb"})


def test_docs_summary_has_one_line_a_promise() -> None:
    """Several figures of one promise become a range; what was not measured is no line."""
    rows = [tables.Row(["a", value], "train tiny against nanoGPT", value) for value in (3.0, 2.5)]
    result = {
        "created_at": "2026-01-02T03:04:05",
        "circumstances": {
            "processor": "P",
            "usable_cores": 2.0,
            "features": ["avx2"],
            "torch": "2.13.0",
            "python": "3.11",
            "commit": "abc",
        },
        "tables": [tables.Table("train_ratios", "T", ["a", "b"], rows).as_json()],
    }
    found = write_docs.rendered(result)
    assert found["summary"].splitlines()[4:] == ["| train tiny against nanoGPT | 2.5 to 3 | x |"]
    assert found["machine"].startswith("Measured 2026-01-02 on P, 2 cores (avx2), torch 2.13.0, Python 3.11, at abc")


def test_docs_are_written_from_whole_results_only(tmp_path: Path) -> None:
    """A newer result of some scripts, or a quick one, would stand under figures that it has not measured."""
    assert write_docs.newest_full(tmp_path) is None
    days = [datetime(2026, 1, day, tzinfo=UTC) for day in range(1, 5)]
    kinds = [{}, {"quick": True}, {"partial": True}, {"quick": True, "partial": True}]
    names = [
        run_all.name_of(day, **{"quick": False, "partial": False} | kind) for day, kind in zip(days, kinds, strict=True)
    ]
    for name in names:
        (tmp_path / name).touch()
    assert write_docs.newest_full(tmp_path) == tmp_path / names[0]


@pytest.mark.parametrize("document", write_docs.DOCUMENTS, ids=lambda path: path.name)
def test_docs_every_marker_is_closed(document: Path) -> None:
    """A marker that lacks its end would be filled with nothing."""
    text = document.read_text(encoding="utf-8")
    assert len(write_docs.MARKED.findall(text)) == text.count("<!-- bench ") == text.count("<!-- end -->") > 0


def test_budget_mode_without_any_preset_has_no_verdict() -> None:
    """Nothing to compare with is no victory."""
    assert budget_mode.margin([], 1.5) is None
    assert budget_mode.margin([1.7, 1.6], 1.5) == pytest.approx(0.1)


def test_budget_mode_compares_with_every_recipe_that_has_a_chance_in_the_time() -> None:
    """In the three minutes of the promise with the one that was made for minutes, too."""
    recipes = {f"recipe/{path.stem}" for path in (PRESETS / "recipe").glob("*.toml")}
    assert {*budget_mode.presets_for(3.0)} == recipes - {"recipe/nanogpt"}
    assert "recipe/speed_long" not in budget_mode.presets_for(budget_mode.SHORT_MINUTES)


def test_budget_fit_law_was_fitted_on_runs_of_the_recipe_in_force() -> None:
    """Who changes the recipe trains again: the law says how far this recipe comes, not another."""
    assert not list(budget_training.missing(budget_training.rows_of()))


def test_budget_fit_run_of_another_recipe_counts_no_more(tmp_path: Path) -> None:
    """Nor does a length that was never made."""
    kept = tmp_path / "runs.jsonl"
    row = budget_training.rows_of()[0]
    kept.write_text("".join(json.dumps(row | {"recipe": recipe}) + "\n" for recipe in (row["recipe"], "another")))
    assert budget_training.rows_of(kept) == [row]
    assert (
        sum(len(plan.steps) for plan in budget_training.missing([row]))
        == sum(len(plan.steps) for plan in budget_training.PLANS) - 1
    )


def test_budget_fit_finds_the_law_that_made_the_losses() -> None:
    """Losses that are a law's own forecasts are met again, within half a percent."""
    rows = budget_training.rows_of()
    known = budget_fit.difficulties(rows)
    law = replace(budget_fit.GUESS, data_power=0.3, repeat_scale=0.05, floor=0.6)
    made = [
        row | {"loss": row["loss"] * math.exp(-error)}
        for row, error in zip(rows, budget_fit.errors(law, rows, known), strict=True)
    ]
    found = budget_fit.fitted(made, budget_fit.difficulties(made), rounds=1500)
    assert max(abs(budget_fit.errors(found, made, budget_fit.difficulties(made)))) < 0.005


@pytest.mark.parametrize("vocabulary", [65, 50304])
def test_characters_give_the_vocabulary_that_was_asked_for(vocabulary: int) -> None:
    """All different, all letters, so that no reader of text changes or splits them."""
    found = shapes.characters(vocabulary)
    assert len(set(found)) == vocabulary - 1
    assert all(letter.isalpha() for letter in found)


@pytest.mark.parametrize("script", sorted(path.name for path in BENCHMARKS.glob("*.py")))
def test_script_is_in_the_readme(script: str) -> None:
    """What is not written down is not found."""
    assert script in (BENCHMARKS / "README.md").read_text(encoding="utf-8")


def test_script_that_could_not_measure_ends_with_one(tmp_path: Path) -> None:
    """The table is printed and kept all the same."""
    program = (
        "import argparse, pathlib, tables\n"
        f"options = argparse.Namespace(quick=True, json=pathlib.Path({str(tmp_path / 'kept.json')!r}))\n"
        "tables.publish(lambda o: [tables.Table('t', 'T', ['a'], [tables.Row([1])], problems=['gone'])], options)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Not measured: gone" in done.stdout
    assert json.loads((tmp_path / "kept.json").read_text())[0]["problems"] == ["gone"]
