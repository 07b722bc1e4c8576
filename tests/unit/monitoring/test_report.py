"""report.html: one file, no network, nothing in it that a run could smuggle in."""

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_playground.core.run_folder import RunFolder
from ml_playground.monitoring.report import LIVE_SAMPLES, inline_json, write_report
from ml_playground.monitoring.report_parts import flattened
from tests.fakes.run_folder import bare_run, put_drawn, put_event, put_result, put_rows, put_sample, put_status

VOID = {"meta", "input", "br", "link", "img"}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\x1b[2J"


class Page(HTMLParser):
    """The page as a browser takes it apart."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.close()
        self.unbalanced += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Remember it."""
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """It closes the innermost one."""
        if not self._open or self._open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        """Text, or a script."""
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        elif not (self._open and self._open[-1] == "style"):
            self.text += data

    @property
    def data(self) -> Any:
        """What the script reads."""
        return json.loads(self.scripts[0])


def page_of(run: RunFolder) -> Page:
    """The report, written and taken apart; every report is well formed and asks for nothing from outside."""
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert page.unbalanced == []
    assert len(page.scripts) == 2
    assert not [value for name, value in page.attributes if name in ("src", "href", "action", "srcset")]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    return page


def test_report_no_rows_yet_is_a_whole_page() -> None:
    """The report of a run that failed at once is still a report."""
    page = page_of(bare_run())
    assert "not started" in page.text
    assert "No step was recorded yet." in page.text
    assert page.data == {"charts": [], "samples": []}


BOOKS = {
    "lost_fraction": 0.0034,
    "ledger": {
        "splits": {
            "train": {"documents": 2, "characters": 9000, "unknown_tokens": 0},
            "val": {"documents": 1, "characters": 1000, "unknown_tokens": 34},
        },
        "dropped": {"duplicate": {"documents": 3}},
        "losses": {"copies": {"documents": 3, "characters": 77}},
    },
    "epoch": {"train": {"tokens": 9002, "trained": 9001, "masked": 1, "truncated": 0, "dropped": 0, "padding": 55}},
}


def test_report_shows_where_the_text_went() -> None:
    """By split, as the trainer wrote it down; what was not counted is a dash, and the numbers stand nowhere twice."""
    run = bare_run()
    run.environment.write_text(json.dumps({"python": "3.11", "data": BOOKS}))
    text = " ".join(page_of(run).text.split())
    assert "Texttrainval documents21 characters9,0001,000 tokens9,002- trained in an epoch9,001-" in text
    assert "Lost unasked: 0.34 % of the text. Copies of earlier documents: 3 (dropped)." in text
    assert "data.ledger" not in text


@pytest.mark.parametrize("fraction", [10**400, -1, "much", None])
def test_report_of_a_share_that_is_none_leaves_it_out(fraction: Any) -> None:
    """A number that no float holds would be no page at all."""
    run = bare_run()
    run.environment.write_text(json.dumps({"data": BOOKS | {"lost_fraction": fraction}}))
    assert "Lost unasked" not in page_of(run).text


@pytest.mark.parametrize("data", [None, 3, {}, {"ledger": 3}, {"ledger": {"splits": {}}}])
def test_report_without_books_has_no_section_for_them(data: Any) -> None:
    """Runs of other versions, and files that somebody edited."""
    run = bare_run()
    run.environment.write_text(json.dumps({"data": data}))
    assert "Copies of earlier documents" not in page_of(run).text


def test_report_whole_run_shows_figures_curves_samples_settings_events() -> None:
    """What its reader looks for, in words."""
    run = bare_run()
    put_status(run, state="ended", reason="completed", step=60)
    put_result(run)
    put_rows(run, 60)
    put_event(run, "started", parameters="1,234")
    put_event(run, "saved", 60, reference="step_000060")
    put_sample(run, 10, "or not")
    put_sample(run, 20, "that is")
    put_drawn(run, "the question", "final.json")
    run.environment.write_text('{"python": "3.11"}')
    page = page_of(run)
    for wanted in (
        "completed",
        "at step 60 of 60, 2026-01-02 03:04 UTC",
        "0.1500",
        "1.162",
        "bits per byte",
        "1.28 k",
        "12m 05s",
        "1,234",
        "optimizer.lr",
        "0.001",
        "the question",
        "python",
        "step_000060",
    ):
        assert wanted in page.text, wanted
    charts = {chart["id"]: chart for chart in page.data["charts"]}
    assert list(charts) == ["chart-loss", "chart-lr", "chart-grad-norm", "chart-speed"]
    assert [curve["name"] for curve in charts["chart-loss"]["curves"]] == [
        "training",
        "training, smoothed",
        "validation",
    ]
    assert charts["chart-loss"]["curves"][2] == {
        "name": "validation",
        "color": "--validation",
        "points": True,
        "steps": [10, 20, 30, 40, 50, 60],
        "values": [0.9, 0.45, 0.3, 0.225, 0.18, 0.15],
    }
    assert [sample["text"] for sample in page.data["samples"]] == ["or not", "that is"]


def test_report_hostile_texts_stay_texts() -> None:
    """Prompts, samples, settings, events and names may hold markup; none of it becomes markup."""
    run = bare_run()
    put_status(run, state="failed", message=HOSTILE)
    put_rows(run, 10)
    put_event(run, HOSTILE, 1, **{HOSTILE: HOSTILE})
    put_sample(run, 1, HOSTILE)
    put_drawn(run, HOSTILE, f"{HOSTILE.partition('/')[0]}.json")
    run.config.write_text(json.dumps({HOSTILE: [HOSTILE]}))
    page = page_of(run)
    assert "img" not in page.tags
    assert page.text.count("onerror=alert(2)") >= 5
    assert page.data["samples"][0]["text"] == HOSTILE.replace("\x1b", "\ufffd")
    assert "\x1b" not in page.text


def test_report_asks_for_nothing_from_outside() -> None:
    """Works on a train; and the page's own policy forbids every request, whatever is in it."""
    run = bare_run()
    text = write_report(run).read_text(encoding="utf-8")
    assert "default-src 'none'" in text
    assert (
        re.findall(r"""(?:src|href|url|@import|import|fetch|XMLHttpRequest)\s*[=(]\s*["']?\s*(?:https?:)?//""", text)
        == []
    )


def test_report_numbers_json_lacks_become_gaps() -> None:
    """A diverged run has a report too; its perplexity may be beyond all floats."""
    run = bare_run()
    rows = [
        '{"kind": "train", "step": 1, "values": {"loss": 2.0}}',
        '{"kind": "train", "step": 2, "values": {"loss": NaN}}',
        '{"kind": "train", "step": 3, "values": {"loss": Infinity}}',
        '{"kind": "evaluation", "step": 3, "values": {"loss": 1e5}}',
    ]
    run.metrics.write_text("\n".join(rows) + "\n")
    page = page_of(run)
    assert page.data["charts"][0]["curves"][0]["values"] == [2.0, None, None]
    assert "perplexity" not in page.text


def test_report_rows_doubled_and_out_of_order_are_drawn_in_order_once() -> None:
    """The plotting library needs rising steps; the last word on a step counts."""
    run = bare_run()
    steps = [(2, 1.0), (1, 3.0), (2, 2.0)]
    lines = [f'{{"kind": "train", "step": {step}, "values": {{"loss": {loss}}}}}\n' for step, loss in steps]
    run.metrics.write_text("".join(lines))
    curve = page_of(run).data["charts"][0]["curves"][0]
    assert (curve["steps"], curve["values"]) == ([1, 2], [3.0, 2.0])


def test_report_long_run_stays_small() -> None:
    """30,000 steps and 1,000 samples: thinned, below 2 MB, the last sample kept."""
    run = bare_run()
    row = '{{"kind":"train","step":{0},"values":{{"loss":{1},"grad_norm":1.0,"lr":0.001}},"timing":{{}}}}\n'
    run.metrics.write_text("".join(row.format(step, 2 + step % 7) for step in range(1, 30_001)))
    run.samples.mkdir()
    sample = '{{"step":{0},"prompt":"a","text":"b"}}\n'
    (run.samples / "live.jsonl").write_text("".join(sample.format(step) for step in range(1000)))
    page = page_of(run)
    assert len(page.data["samples"]) == LIVE_SAMPLES
    assert page.data["samples"][-1]["step"] == 999
    assert all(len(curve["steps"]) <= 10_000 for chart in page.data["charts"] for curve in chart["curves"])
    assert run.report.stat().st_size < 2_000_000


@pytest.mark.parametrize(
    ("status", "result", "words"),
    [
        ({"state": "training"}, None, "interrupted"),
        ({"state": "ended"}, {"reason": "stopped_early", "message": "by its own rule"}, "stopped early"),
        ({"state": "ended"}, {"reason": "nan", "message": "at step 7"}, "loss is no number"),
        ({"state": "ended"}, {"reason": "paused"}, "paused"),
    ],
)
def test_report_outcome_is_in_words(status: dict[str, Any], result: dict[str, Any] | None, words: str) -> None:
    """The first thing that a reader wants to know, and why."""
    run = bare_run()
    put_status(run, **status)
    if result is not None:
        put_result(run, **result)
    page = page_of(run)
    assert words in page.text
    assert (result or {}).get("message", "") in page.text


def test_report_unreadable_lines_are_told() -> None:
    """Nothing is lost in silence."""
    run = bare_run()
    put_status(run)
    run.metrics.write_text("nonsense\n")
    assert "(1 line of its files could not be read)" in page_of(run).text


@given(value=JSON_VALUES)
def test_inline_json_any_value_comes_back_and_cannot_end_its_element(value: Any) -> None:
    """The only door between a run's texts and the page's scripts."""
    text = inline_json(value)
    assert json.loads(text) == value
    assert not set("<>&") & set(text)


def test_flattened_settings_have_dotted_paths() -> None:
    """Texts as they are, everything else as JSON."""
    settings = {"name": "x", "optimizer": {"lr": 0.1, "betas": [1, 2]}, "hooks": {}, "test": None, "on": True}
    assert list(flattened(settings)) == [
        ("name", "x"),
        ("optimizer.lr", "0.1"),
        ("optimizer.betas", "[1, 2]"),
        ("hooks", "{}"),
        ("test", "null"),
        ("on", "true"),
    ]


def test_report_of_a_budget_says_that_its_time_was_used_and_how_good_the_forecast_was() -> None:
    """Stopped early is not what its user sees who gave it three minutes."""
    run = bare_run()
    put_status(run, state="ended", reason="stopped_early")
    put_result(run, reason="stopped_early")
    forecast = {"expected": 1.62, "low": 1.57, "high": 1.67, "error": -0.02}
    put_event(run, "budget", step=20, minutes=3.0, used=True, loss=1.6, **forecast)
    text = Page(write_report(run).read_text(encoding="utf-8")).text
    assert "used its 3 minutes" in text
    assert "stopped early" not in text
    assert "1.6201.570 to 1.670; error -0.020" in text


def test_report_of_a_budget_that_another_rule_cut_short_says_stopped_early() -> None:
    """Early stopping may end a run after a tenth of its minutes."""
    run = bare_run()
    put_status(run, state="ended", reason="stopped_early")
    put_result(run, reason="stopped_early")
    put_event(run, "budget", step=20, minutes=3.0, used=False, loss=1.6)
    assert "stopped early" in Page(write_report(run).read_text(encoding="utf-8")).text


@pytest.mark.parametrize("minutes", [None, "3", [3.0]])
def test_report_of_a_damaged_budget_is_a_report_without_one(minutes: object) -> None:
    """What a file may hold is not trusted."""
    run = bare_run()
    put_status(run, state="ended", reason="stopped_early")
    put_result(run, reason="stopped_early")
    put_event(run, "budget", step=20, minutes=minutes)
    assert "stopped early" in Page(write_report(run).read_text(encoding="utf-8")).text


def test_report_counts_steps_that_went_wrong_once_each() -> None:
    """Not once for each time that they were made again."""
    run = bare_run()
    for step, batch in ((40, 39), (40, 40), (40, 39), (1200, 1201)):
        put_event(run, "rolled_back", step=step, batches=[batch])
    for step in (3, 4, 3, *range(5, 10)):
        put_event(run, "skipped", step=step)
    for parts in (2, 4):
        put_event(run, "split", step=7, phase="training", parts=parts)
    text = page_of(run).text
    assert "steps undone3steps 40, 40, 1,200; their texts and numbers: bad_batches/" in text
    assert "steps skipped7steps 3, 4, 5, 6, 7 and 2 more" in text
    assert "parts of a micro-batch4since memory ran out at step 7" in text
