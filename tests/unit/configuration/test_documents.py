"""Reading TOML, JSON and YAML: the values, the lines of the keys, and every refusal."""

import json
import os
from pathlib import Path

import pytest

from ml_playground.configuration.documents import LARGEST_BYTES, MOST_VALUES, read_document
from ml_playground.configuration.lines import json_lines, toml_lines
from ml_playground.core.error_handling import ConfigError

TOML = '''# comment with key = 1
seed = 1

[train] # comment
max_steps = 5
"quoted \\u00e9" = 1
text = """
not = a key
[not.a.table]
"""
literal = \'\'\'
also = not\'\'\'
list = [
  { inner = 1 },
  2,
]
table = { a = 1, b = { c = 2.5, d = "x # y" } }
after = 1

[hooks."a.b"]
kind.name = 2024-01-01
[[many]]
x = 1
'''


def test_toml_lines_every_construct_gives_line_of_each_key() -> None:
    """A message that names the wrong line is worse than none."""
    assert toml_lines(TOML) == {
        ("seed",): 2,
        ("train",): 4,
        ("train", "max_steps"): 5,
        ("train", "quoted é"): 6,
        ("train", "text"): 7,
        ("train", "literal"): 11,
        ("train", "list"): 13,
        ("train", "table"): 17,
        ("train", "table", "a"): 17,
        ("train", "table", "b"): 17,
        ("train", "table", "b", "c"): 17,
        ("train", "table", "b", "d"): 17,
        ("train", "after"): 18,
        ("hooks", "a.b"): 20,
        ("hooks", "a.b", "kind", "name"): 21,
        ("many",): 22,
        ("many", "x"): 23,
    }


def test_json_lines_nested_text_gives_line_of_each_key() -> None:
    """JSON's own parser knows no lines."""
    text = '{\n "a": {"b\\n": 1,\n "c": [{"d": 1}, "e"]},\n\n "f": "x: {"\n}'
    assert json_lines(text) == {("a",): 2, ("a", "b\n"): 2, ("a", "c"): 3, ("f",): 5}


def test_read_yaml_core_rules_give_numbers_and_text(tmp_path: Path) -> None:
    """YAML 1.1 would read 1e-3 as text, `yes` as true, 010 as 8, 1:30 as 90 and a date as no text."""
    file = tmp_path / "a.yaml"
    file.write_text(
        "a:\n  x: 1e-3\n  y: .5\n  z: 1.5E+2\n  yes: yes\n  n: ~\n  i: 010\n  s: 1:30\n  d: 2024-01-01\n  inf: -.inf\n"
        "  t: true\n  q: '1'\n  l: [1, a]\n  e:\n"
    )
    document = read_document(file)
    assert document.table == {
        "a": {
            "x": 0.001,
            "y": 0.5,
            "z": 150.0,
            "yes": "yes",
            "n": None,
            "i": 10,
            "s": "1:30",
            "d": "2024-01-01",
            "inf": float("-inf"),
            "t": True,
            "q": "1",
            "l": [1, "a"],
            "e": None,
        }
    }
    assert document.lines["a", "t"] == 11


@pytest.mark.parametrize("name", ["a.toml", "a.yml", "a.YAML"])
def test_read_empty_file_gives_empty_table(tmp_path: Path, name: str) -> None:
    """A file of comments changes nothing."""
    (tmp_path / name).write_text("# nothing\n")
    assert read_document(tmp_path / name).table == {}


def test_read_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    """Some editors write one."""
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfseed = 1\n")
    assert read_document(tmp_path / "a.toml").table == {"seed": 1}


DEEP = 5_000
REFUSED = [
    ("a.txt", b"", "a configuration file ends in .toml, .json, .yaml, .yml; got '.txt'"),
    ("a", b"", "got 'no suffix'"),
    ("a.toml", b"\n\nx = \xff", "a.toml, line 3: is not UTF-8 (byte 6); save it as UTF-8"),
    ("a.toml", b"x = 1\ny = = 2", "a.toml: is not valid TOML: Invalid value (at line 2, column 5)"),
    ("a.toml", b"x = 1\nx = 2\n", "Cannot overwrite a value (at line 2"),
    ("a.toml", b"x = 1\nt = 2024-01-01", "a.toml, line 2: t is a date or a time; no setting takes one"),
    ("a.toml", b"x = " + b"[" * DEEP + b"]" * DEEP, "a.toml: is not valid TOML: it is nested too deeply"),
    ("a.toml", b"a" + b".a" * 500_000 + b" = 1", "a.toml: is not valid TOML: more than 100 words are joined by dots"),
    ("a.toml", b"[a" + b' . "a"' * 100_000 + b"]", "more than 100 words are joined by dots"),
    (
        "a.toml",
        b"a = 1\nx = 0x" + b"f" * 900_000,
        "a.toml, line 2: x is a number beyond 2^63 - 1; no setting takes one",
    ),
    ("a.toml", b"x = -9223372036854775808", "x is a number beyond 2^63 - 1"),
    ("a.toml", b"a" + b".a" * 30 + b" = 1", "a.a.a... is nested deeper than 20 levels"),
    ("a.toml", b"x = " + b"9" * 5000, "a.toml: is not valid TOML: Exceeds the limit"),
    ("a.toml", b"x = [" + b"1," * MOST_VALUES + b"]", "holds more than 20000 values"),
    ("a.toml", b"#" * (LARGEST_BYTES + 1), f"is larger than {LARGEST_BYTES} bytes"),
    ("a.json", b'{"a": 1,\n}', "a.json, line 2: is not valid JSON"),
    ("a.json", b"[1]", "must be a JSON object such as"),
    ("a.json", b"[1]", "got a list"),
    ("a.json", b"null", "got None"),
    ("a.json", b'{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice in one table"),
    (
        "a.json",
        b'{"a": 0, ' + b", ".join(b'"%d": 0' % n for n in range(70_000)) + b', "a": 0}',
        "the key 'a' stands twice",
    ),
    ("a.json", b'{"a": 99999999999999999999}', "a.json, line 1: a is a number beyond 2^63 - 1"),
    ("a.json", b'{"a": "\\ud800"}', "a.json, line 1: 'a' holds half a surrogate pair"),
    ("a.json", b'{"\\ud800": 1}', "holds half a surrogate pair"),
    ("a.json", b'{"a": ' + b"[" * DEEP + b"]" * DEEP + b"}", "is nested "),
    ("a.json", b'{"a": ' + b"[" * 99_999 + b"]" * 99_999 + b"}", "a.json: is nested too deeply"),
    ("a.yaml", b"a: [1\nb: 2", "is not valid YAML"),
    ("a.yaml", b"- 1", "must be a YAML mapping of sections; got a list"),
    ("a.yaml", b"a: 1\nb: &x 2\nc: *x", "a.yaml, line 3: is not valid YAML: aliases (*name) are not read here"),
    ("a.yaml", b"a: 1\na: 2", "a.yaml, line 2: is not valid YAML: the key 'a' stands twice"),
    ("a.yaml", b"a: !!python/object:x.y {}", "the tag tag:yaml.org,2002:python/object:x.y is not read here"),
    ("a.yaml", b"a: !!python/name:os.system ''", "the tag tag:yaml.org,2002:python/name:os.system is not read here"),
    ("a.yaml", b"? [a]\n: 1", "a key must be a plain word"),
    ("a.yaml", b"? " + b"{? " * 50 + b"a" + b"}" * 50 + b"\n: 1", "a key must be a plain word"),
    ("a.yaml", b"a:\n" + b"- a\n" * 200_000, "is not valid YAML: it holds more than 20000 values"),
    ("a.yaml", b'a: "\\UFFFFFFFF"', "a.yaml: is not valid YAML"),
    ("a.yaml", b'a: "\\U00110000"', "a.yaml: is not valid YAML"),
    ("a.yaml", b'a: "\\uD800"', "half a surrogate pair"),
    ("a.yaml", b"a: \x07", "is not valid YAML"),
    ("a.yaml", b"a: " + b"[" * 999 + b"]" * 999, "a.yaml: is nested too deeply"),
]


@pytest.mark.parametrize(("name", "content", "message"), REFUSED, ids=range(len(REFUSED)))
def test_read_document_bad_content_is_refused_in_words(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Whatever stands in a file, its reader says what is wrong with it, and where."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_document(tmp_path / name)
    assert message in str(caught.value)
    assert str(tmp_path / name) in str(caught.value)


def test_read_document_missing_file_says_so(tmp_path: Path) -> None:
    """The path is part of the message."""
    with pytest.raises(ConfigError, match="gone.toml: no such file"):
        read_document(tmp_path / "gone.toml")


def test_read_document_folder_says_so(tmp_path: Path) -> None:
    """A folder may end in .toml too."""
    (tmp_path / "a.toml").mkdir()
    with pytest.raises(ConfigError, match="a.toml: is a folder; name a file in it"):
        read_document(tmp_path / "a.toml")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_read_document_unreadable_file_says_why(tmp_path: Path) -> None:
    """A missing right is named."""
    file = tmp_path / "a.toml"
    file.write_text("")
    file.chmod(0)
    with pytest.raises(ConfigError, match="a.toml: cannot be read: Permission denied"):
        read_document(file)


def test_read_document_name_too_long_says_why(tmp_path: Path) -> None:
    """The system's own reason is passed on."""
    with pytest.raises(ConfigError, match="cannot be read: File name too long"):
        read_document(tmp_path / ("a" * 5000 + ".toml"))


def test_read_document_nul_in_name_says_so() -> None:
    """No file system takes it."""
    with pytest.raises(ConfigError, match="no such file"):
        read_document(Path("a\0b.toml"))


def test_read_json_and_toml_same_values_give_same_table(tmp_path: Path) -> None:
    """The format is a matter of taste."""
    (tmp_path / "a.toml").write_text('a = { b = [1, 2.5, "x", true] }')
    (tmp_path / "a.json").write_text(json.dumps({"a": {"b": [1, 2.5, "x", True]}}))
    (tmp_path / "a.yaml").write_text("a: {b: [1, 2.5, x, true]}")
    tables = [read_document(tmp_path / f"a.{suffix}").table for suffix in ("toml", "json", "yaml")]
    assert tables[0] == tables[1] == tables[2]
