"""Finds functions, settings and variables that nothing uses, with vulture.

vulture reads names. What is named only in a string, `module:name` in a table, is added here: a row of a table is a use.
A settings field that nothing reads is found too: a setting without effect is a defect.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from vulture.core import Vulture

ROOT = Path(__file__).parent.parent
READ = ["src", "benchmarks", "tools"]
REPORTED = ROOT / "src"


def names_in_strings(folder: Path) -> Iterator[str]:
    """Names that tables refer to, at home or in an f-string's tail: `ml_playground.x:name` gives name."""
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield from re.findall(r"^ml_playground[\w.]*:(\w+)$", node.value)


def main() -> int:
    """Print what is unused; the exit code is 1 when there is something."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["vulture"]
    vulture = Vulture(ignore_names=config["ignore_names"], ignore_decorators=config["ignore_decorators"])
    vulture.scavenge([str(ROOT / name) for name in READ if (ROOT / name).is_dir()])
    vulture.scan("\n".join([*names_in_strings(REPORTED), *config["used_by_name"]]))
    unused = [item for item in vulture.get_unused_code() if Path(item.filename).is_relative_to(REPORTED)]
    for item in unused:
        print(f"{Path(item.filename).relative_to(ROOT)}:{item.first_lineno}: {item.message}")
    return 1 if unused else 0


if __name__ == "__main__":
    sys.exit(main())
