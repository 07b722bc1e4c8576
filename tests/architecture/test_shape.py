"""The shape of the source: sizes, and what must not occur."""

import ast
from pathlib import Path

import pytest

from tests.architecture.source import PACKAGE, ROOT, Source, calls, dotted, sources

FILE_LINES, FUNCTION_LINES, HEART_LINES = 400, 80, 500
# The budgets below the hard limits; whoever needs more says so here.
FILE_BUDGET, FUNCTION_BUDGET = 300, 50
LONGER_FILES = set[str]()
LONGER_FUNCTIONS = set[str]()

BROAD_HANDLERS_IN = {"commands/command_line.py", "training/hooks/tolerant.py"}
PRINT_IN = {"commands/command_line.py", "training/hooks/console.py"}
GLOBAL_SEEDS = {
    "torch.manual_seed",
    "torch.cuda.manual_seed",
    "torch.cuda.manual_seed_all",
    "torch.random.manual_seed",
    "np.random.seed",
    "numpy.random.seed",
    "random.seed",
}
SEED_IN = {"training/assembly.py", "training/learner.py", "training/trial.py"}


def named(source: Source) -> str:
    """A file's path below the package."""
    return source.path.relative_to(PACKAGE).as_posix()


def test_files_stay_below_the_hard_limit() -> None:
    """Nobody reads a long file whole."""
    assert [f"{source}: {n}" for source in sources() if (n := len(source.text.splitlines())) > FILE_LINES] == []


def test_files_keep_their_budget_or_are_listed() -> None:
    """The list is short, and a reviewer sees it grow."""
    longer = {named(source) for source in sources() if len(source.text.splitlines()) > FILE_BUDGET}
    assert longer == LONGER_FILES


def function_lengths() -> dict[str, int]:
    """Lines of each function of the package, its decorators and docstring included."""
    return {
        f"{named(source)}:{node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for source in sources()
        for node in source.nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_functions_stay_below_the_hard_limit() -> None:
    """A function that fills two screens does two things."""
    assert {name: lines for name, lines in function_lengths().items() if lines > FUNCTION_LINES} == {}


def test_functions_keep_their_budget_or_are_listed() -> None:
    """The list is short, and a reviewer sees it grow."""
    assert {name for name, lines in function_lengths().items() if lines > FUNCTION_BUDGET} == LONGER_FUNCTIONS


def test_engine_loop_and_learner_stay_small_together() -> None:
    """The heart of the system fits into one reading."""
    parts = [PACKAGE / "training" / f"{name}.py" for name in ("engine", "loop", "learner")]
    assert sum(len(part.read_text(encoding="utf-8").splitlines()) for part in parts) < HEART_LINES


def test_folders_have_no_marker_file() -> None:
    """PEP 420: plugins add portions to our namespace."""
    assert [str(path.relative_to(ROOT)) for top in ("src", "tests") for path in (ROOT / top).rglob("__init__.py")] == []


def test_modules_offer_no_facade() -> None:
    """One name, one place to import it from."""
    wrong = [
        source.where(node)
        for source in sources()
        for node in source.nodes(ast.Name)
        if isinstance(node, ast.Name) and node.id == "__all__"
    ]
    assert wrong == []


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Whether a handler takes everything."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or dotted(kind) in {"Exception", "BaseException"} for kind in caught)


def test_handlers_name_what_they_catch_or_raise_again() -> None:
    """Swallowed errors are where the older systems broke."""
    wrong = [
        source.where(node)
        for source in sources()
        if named(source) not in BROAD_HANDLERS_IN
        for node in source.nodes(ast.ExceptHandler)
        if isinstance(node, ast.ExceptHandler)
        and is_broad(node)
        and not any(isinstance(child, ast.Raise) for child in ast.walk(node))
    ]
    assert wrong == []


def test_handlers_and_suppressors_of_everything_do_not_hide_elsewhere() -> None:
    """`suppress(Exception)` is the same in other words."""
    wrong = [
        source.where(call)
        for source in sources()
        for call, name in calls(source)
        if name.endswith("suppress") and any(dotted(kind) in {"Exception", "BaseException"} for kind in call.args)
    ]
    assert wrong == []


def test_no_assert_guards_the_program() -> None:
    """`python -O` leaves asserts out; what can go wrong raises an error with a text."""
    assert [source.where(node) for source in sources() for node in source.nodes(ast.Assert)] == []


def test_only_the_console_prints() -> None:
    """A library that prints cannot be used by another program."""
    wrong = [
        source.where(call)
        for source in sources()
        for call, name in calls(source)
        if name in {"print", "pprint"} and named(source) not in PRINT_IN
    ]
    assert wrong == []


def test_global_seeds_are_set_in_two_places() -> None:
    """Randomness has a name; a seed set in passing changes what comes after it."""
    wrong = [
        source.where(call)
        for source in sources()
        for call, name in calls(source)
        if name in GLOBAL_SEEDS and named(source) not in SEED_IN
    ]
    assert wrong == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "HACK"])
def test_no_promise_stands_in_the_source(word: str) -> None:
    """What is left to do stands in an issue."""
    assert [str(source) for source in sources() if word in source.text] == []


def test_lists_of_exceptions_name_files_that_exist() -> None:
    """An exception must not outlive its reason."""
    listed = (
        BROAD_HANDLERS_IN | PRINT_IN | SEED_IN | LONGER_FILES | {name.partition(":")[0] for name in LONGER_FUNCTIONS}
    )
    assert [name for name in sorted(listed) if not Path(PACKAGE / name).is_file()] == []
