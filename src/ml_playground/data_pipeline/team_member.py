"""A process that counts and encodes text for the one that prepares: `python -m ml_playground.data_pipeline.team_member KIND`.

It reads requests from stdin and answers each on stdout, and it ends when stdin does: whoever started it may be killed,
and nothing stays behind. A message is a number of parts, their sizes, their bytes; nothing in it is ever run.

| request | its other parts | answer |
|---|---|---|
| `learn` | texts | nothing; they are added to what this process has learnt |
| `learnt` | | the learner's state |
| `load` | the folder of a tokenizer | nothing |
| `encode` | texts | the ids of each, as `core.tokenizer_protocol.ids_dtype` says |
"""

import os
import signal
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ml_playground.core.registry import load_object
from ml_playground.core.tokenizer_protocol import BulkTokenizer, SharedKind

LEARN, LEARNT, LOAD, ENCODE = b"learn", b"learnt", b"load", b"encode"


def write_message(stream: BinaryIO, parts: Sequence[bytes]) -> None:
    """Send parts and flush."""
    sizes = [len(part) for part in parts]
    stream.write(struct.pack(f"<{len(sizes) + 1}Q", len(sizes), *sizes))
    stream.writelines(parts)
    stream.flush()


def read_message(stream: BinaryIO) -> list[bytes] | None:
    """The next message; None when the other side has ended, be it in the middle of one."""
    head = stream.read(8)
    count = int.from_bytes(head, "little")
    sizes = stream.read(8 * count)
    if len(head) < 8 or len(sizes) < 8 * count:  # noqa: PLR2004 - bytes of a number
        return None
    expected = struct.unpack(f"<{count}Q", sizes)
    parts = [stream.read(size) for size in expected]
    return parts if all(len(part) == size for part, size in zip(parts, expected, strict=True)) else None


def serve(kind: SharedKind, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer requests until there are no more."""
    learner = kind.learner()
    tokenizer: BulkTokenizer | None = None
    while message := read_message(requests):
        request, *parts = message
        answer: list[bytes] = []
        if request == LEARN:
            for part in parts:
                learner.add(part.decode())
        elif request == LEARNT:
            answer = [learner.state()]
            learner = kind.learner()
        elif request == LOAD:
            tokenizer = kind.load(Path(os.fsdecode(parts[0])))
        elif tokenizer is not None:
            answer = [ids.tobytes() for ids in tokenizer.encode_arrays([part.decode() for part in parts])]
        write_message(replies, answer)


def main() -> None:
    """Serve on stdin and stdout; what else would be printed goes to stderr."""
    # Ctrl-C is for the process that prepares; it ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Who asked may be killed while it waits for the answer.
    with suppress(BrokenPipeError):
        serve(load_object(sys.argv[1]), sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
