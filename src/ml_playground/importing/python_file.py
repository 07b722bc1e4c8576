"""The assignments of a Python file, read from its syntax; nothing of it is ever run."""

import ast
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_playground.configuration.documents import LARGEST_BYTES, LARGEST_INTEGER, Document, vetted
from ml_playground.core.error_handling import ConfigError
from ml_playground.core.foreign_files import read_at_most
from ml_playground.importing.book import Computed, Foreign

LONGEST_CODE = 60
MOST_POWER = 64
LONGEST_JOINED = 1000
"""Characters of texts that are added: forty lines of `a = a + a` would fill any memory."""
Number = int | float
OPERATIONS: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda left, right: left + right,
    ast.Sub: lambda left, right: left - right,
    ast.Mult: lambda left, right: left * right,
    ast.Div: lambda left, right: left / right,
    ast.FloorDiv: lambda left, right: left // right,
    ast.Mod: lambda left, right: left % right,
    ast.Pow: lambda left, right: left**right,
}


def read_assignments(file: Path, system: str) -> Foreign:
    """Names and values: literals, and arithmetic of them and of names that stand above. The last assignment of a name counts.

    A value that only running would give is a `Computed`: it does no harm where nobody asks for it.

    Raises:
        ConfigError: It cannot be read, is no Python, does anything but assign, or holds what no setting can; names the line.
    """
    try:
        values, lines = _assignments(file, _tree(file))
    except RecursionError:
        raise ConfigError(f"{file}: is nested too deeply") from None
    plain = {name: value for name, value in values.items() if not isinstance(value, Computed)}
    vetted(Document(plain, {(name,): line for name, line in lines.items()}), str(file))
    return Foreign(system, file, values, lines)


def _assignments(file: Path, tree: ast.Module) -> tuple[dict[str, Any], dict[str, int]]:
    values: dict[str, Any] = {}
    lines: dict[str, int] = {}
    for statement in tree.body:
        match statement:
            case ast.Expr(value=ast.Constant()) | ast.Import() | ast.ImportFrom() | ast.Pass():
                continue
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                pass
            case _:
                raise ConfigError(
                    f"{file}, line {statement.lineno}: `{_code(statement)}` computes; only NAME = VALUE is read here, and no "
                    "line is ever run: write the value itself there"
                )
        lines[name] = statement.lineno
        try:
            values[name] = _value(value, values)
        except (ArithmeticError, TypeError, ValueError):
            values[name] = Computed(_code(value))
    return values, lines


def _tree(file: Path) -> ast.Module:
    try:
        data = read_at_most(file, LARGEST_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    try:
        with warnings.catch_warnings():
            # Of escapes in its strings, which are its author's affair.
            warnings.simplefilter("ignore")
            return ast.parse(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}, line {line}: is not UTF-8; save it as UTF-8") from error
    except SyntaxError as error:
        raise ConfigError(f"{file}, line {error.lineno}: is not valid Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"{file}: is not valid Python: {str(error) or 'it is nested too deeply'}") from error


def _value(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """What an expression is.

    Raises:
        ValueError: It is no arithmetic of plain values.
        ArithmeticError, TypeError: Python would refuse it too, or it is no arithmetic of numbers.
    """
    match node:
        case ast.Constant(value=str() | int() | float() | None as value):
            return _bounded(value)
        # Lists of lists by name would double with each line.
        case ast.Name(id=name) if name in known and not isinstance(known[name], Computed | list):
            return known[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _number(_value(operand, known))
            return -number if isinstance(sign, ast.USub) else number
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return not _value(operand, known)
        case ast.BinOp(left=left, op=how, right=right) if type(how) in OPERATIONS:
            return _combined(how, _value(left, known), _value(right, known))
        case ast.List(elts=entries) | ast.Tuple(elts=entries):
            return [_value(entry, known) for entry in entries]
        case _:
            raise ValueError("it is computed")


def _combined(how: ast.operator, left: Any, right: Any) -> Any:
    if isinstance(left, str) and isinstance(right, str) and isinstance(how, ast.Add):
        if len(left) + len(right) > LONGEST_JOINED:
            raise ValueError("a text beyond all settings")
        return left + right
    left, right = _number(left), _number(right)
    if isinstance(how, ast.Pow) and abs(right) > MOST_POWER:
        raise ValueError("a number beyond all settings")
    return _bounded(OPERATIONS[type(how)](left, right))


def _number(value: Any) -> Number:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError("it is no number")
    return value


def _bounded(value: Any) -> Any:
    if isinstance(value, complex) or (isinstance(value, int) and abs(value) > LARGEST_INTEGER):
        raise ValueError("a number beyond all settings")
    return value


def _code(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= LONGEST_CODE else f"{text[:LONGEST_CODE]}..."
