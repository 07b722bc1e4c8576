"""The mistakes that the grammar names, each with its place."""

import pytest

from ml_playground.profiles.grammar import MOST_NESTED, Call, GrammarError, Number, Symbol, canonical, parse


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "an expression is missing, at character 1"),
        (" \n", "an expression is missing, at character 3"),
        ("(add 1", "')' is missing for the '(' at character 1, at character 7"),
        ("(f (g 1)", "')' is missing for the '(' at character 1, at character 9"),
        (")", "')' closes nothing, at character 1"),
        ("(f 1))", "')' stands after the end of the expression, at character 6"),
        ("1 2", "'2' stands after the end of the expression, at character 3"),
        ("()", "an operator's name must follow '(', got ')', at character 2"),
        ("(1 2)", "an operator's name must follow '(', got '1', at character 2"),
        ("((f) 1)", "an operator's name must follow '(', got '(', at character 2"),
        ("(f(g))", "a blank is missing before '(', at character 3"),
        ("(f 1.)", "'1' begins neither number nor name nor call, at character 4"),
        ("2x", "'2' begins neither number nor name nor call, at character 1"),
        ("(f é)", "'é' begins neither number nor name nor call, at character 4"),
        ("(f " * (MOST_NESTED + 1), f"more than 64 calls within each other, at character {3 * MOST_NESTED + 1}"),
    ],
)
def test_parse_says_what_is_wrong_and_where(text: str, problem: str) -> None:
    """One message for each mistake."""
    with pytest.raises(GrammarError) as refused:
        parse(text)
    assert str(refused.value) == problem


def test_parse_gives_the_tree() -> None:
    """Operators, numbers and names in their places."""
    wanted = Call("add", (Number("1"), Call("neg", (Number("-2.5"),)), Symbol("x_1"), Call("list")))
    assert parse("(add 1 (neg -02.50)\n x_1 ( list ))") == wanted


@pytest.mark.parametrize(
    ("text", "plain"), [("-0", "0"), ("-0.0", "0"), ("007", "7"), ("-00.10", "-0.1"), ("1e", None)]
)
def test_numbers_have_one_spelling(text: str, plain: str | None) -> None:
    """Zeros that say nothing go; an exponent is no number."""
    if plain is None:
        with pytest.raises(GrammarError):
            canonical(text)
    else:
        assert canonical(text) == plain
