"""Makes hostile files out of valid ones: by their bytes, and by the values of their JSON."""

import json
import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

WORDS: tuple[bytes, ...] = (
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b"'",
        b'"""',
        b"'''",
        b":",
        b"=",
        b",",
        b"#",
        b"\\",
        b"-",
        b"? ",
        b"- ",
        b"\n",
        b"\r",
        b"\t",
    ),
    *(
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"\\UFFFFFFFF",
        b"\xe2\x80\xa8",
        b"\x1b[2J",
    ),
    *(
        b"null",
        b"true",
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"-1",
        b"1e999",
        b"1e-999",
        b"0x" + b"f" * 40,
        b"9" * 30,
        b"9" * 5000,
    ),
    *(
        b"../",
        b"/etc/passwd",
        b"C:\\",
        b"con",
        b"a.b.c",
        b".a" * 200,
        b"*x",
        b"&x",
        b"<<: ",
        b"!!python/name:os.system",
        b"---\n",
    ),
    *(
        b"kind",
        b"schema_version",
        b"step",
        b"files",
        b"sha256",
        b"name",
        b"2024-01-01",
        b"inf",
        b"nan",
        b"0o7",
        b"__class__",
    ),
)
"""What parsers stumble over, and what ours look for."""

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 255, 1 << 31, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63) - 1, 10**30, 10**400),
    *(0.5, -0.0, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf),
    *(
        "",
        " ",
        ".",
        "..",
        "../x",
        "/etc/passwd",
        "a\\b",
        "a\0b",
        "con",
        "\ud800",
        "\U0010ffff",
        "x" * 3000,
        "1",
        "none",
        "\x1b[2J",
    ),
    *([], {}, [[]], [None], {"": 0}, {"kind": 0}, {"kind": "gpt"}, {"a": {"a": {"a": {}}}}, ["a", 1, None, []]),
)
"""Values where another one stood."""


def mutated(seeds: Sequence[bytes], random: Random) -> bytes:
    """One of the seeds, changed in one to a few places."""
    seed = random.choice(seeds)
    content = _changed_json(seed, random) if random.random() < 0.6 else seed
    # What is JSON still is mostly left so: it gets further into its reader.
    edits = (1, 1, 2, 5) if content == seed else (0, 0, 0, 1)
    for _ in range(random.choice(edits)):
        content = random.choice(_EDITS)(content, seeds, random)
    return content[:1_000_000]


def _changed_json(content: bytes, random: Random) -> bytes:
    """Some values replaced, in a text of JSON or in one line of several; anything else as it was."""
    lines = content.split(b"\n") if content.count(b"\n{") else [content]
    place = random.randrange(len(lines))
    try:
        value: Any = json.loads(lines[place])
    except (ValueError, RecursionError):
        return content
    for _ in range(random.choice((1, 1, 2, 4))):
        value = with_odd_value(value, random)
    lines[place] = json.dumps(value, ensure_ascii=random.random() < 0.5).encode(errors="surrogatepass")
    return b"\n".join(lines)


def with_odd_value(value: Any, random: Random) -> Any:
    """A copy with another value, key or entry somewhere in it; deeper places as likely as shallow ones."""
    if isinstance(value, dict) and value and random.random() < 0.85:
        key = random.choice(list(value))
        inner = with_odd_value(value[key], random)
        return random.choice(
            (
                {**value, key: inner},
                {**value, key: inner},
                {**value, key: inner},
                {other: entry for other, entry in value.items() if other != key},
                {**value, str(random.choice(ODD)): inner},
            )
        )
    if isinstance(value, list) and value and random.random() < 0.85:
        place = random.randrange(len(value))
        inner = with_odd_value(value[place], random)
        tail = value[place + 1 :]
        return random.choice(([*value[:place], inner, *tail], [*value[:place], *tail], [*value, inner, *value]))
    alike = [other for other in ODD if type(other) is type(value)]
    if alike and random.random() < 0.6:
        # Of the same type, so that it passes the first look.
        return random.choice(alike)
    odd = random.choice(ODD)
    return nested(odd, random.choice((0, 0, 0, 0, 3, 60, 400)), random)


def nested(value: Any, depth: int, random: Random) -> Any:
    """The value inside of so many lists or tables."""
    for _ in range(depth):
        value = [value] if random.random() < 0.5 else {"a": value}
    return value


def _flipped(content: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    changed = bytearray(content or b"\0")
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(content: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    first, end = _stretch(content, random)
    return content[:first] + content[end:]


def _truncated(content: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    return content[: random.randint(0, len(content))]


def _repeated(content: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    first, end = _stretch(content, random)
    end = min(end, first + 200)
    return content[:first] + content[first:end] * random.choice((2, 3, 50, 1000)) + content[end:]


def _with_word(content: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    first, end = _stretch(content, random)
    end = random.choice((first, end))
    return content[:first] + random.choice(WORDS) * random.choice((1, 1, 1, 2, 2000)) + content[end:]


def _spliced(content: bytes, seeds: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(seeds)
    first, end = _stretch(other, random)
    place = random.randint(0, len(content))
    return content[:place] + other[first:end] + content[place:]


def _stretch(content: bytes, random: Random) -> tuple[int, int]:
    first = random.randint(0, len(content))
    return first, min(len(content), first + random.choice((0, 1, 2, 8, 64, 10_000)))


_EDITS: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
    _flipped,
    _cut,
    _truncated,
    _repeated,
    _with_word,
    _with_word,
    _spliced,
)
