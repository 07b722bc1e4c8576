"""Texts that a model ended before it wrote anything are said to be empty, with what to try."""

import pytest

from ml_playground.commands.sample_texts import Text, gather
from ml_playground.sampling.texts import Piece


@pytest.mark.parametrize(
    ("prompt", "ends", "message"),
    [
        ("\n", [0, 2], "note: the model ended 1 of 2 texts at once; try --prompt ''\n"),
        ("", [0, 0], "note: the model ended 2 of 2 texts at once; try another --prompt\n"),
        ("\n", [1, 2], ""),
    ],
)
def test_gather_says_how_many_texts_are_empty(
    prompt: str, ends: list[int], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blank lines alone look like a failure; the note stands on stderr."""
    pieces = [Piece(0, sample, "a" * tokens, tokens, "stop") for sample, tokens in enumerate(ends)]
    gather(pieces, [Text(prompt, sample) for sample in range(len(ends))], len(ends), None)
    assert capsys.readouterr() == ("", message)


def test_gather_counts_no_text_that_was_cut_off_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A stop text of the user's own, or a length, is no end that the model chose."""
    gather([Piece(0, 0, "", 1, "stop"), Piece(0, 1, "", 0, "length")], [Text("", 0), Text("", 1)], 2, None)
    assert capsys.readouterr().err == ""
