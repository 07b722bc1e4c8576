"""Several processes that learn and encode; the order of what comes back is that of what was given."""

import os
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import BinaryIO, cast

import numpy as np

from ml_playground.core.error_handling import WorkerError
from ml_playground.core.tokenizer_protocol import BulkTokenizer, Ids, VocabularyLearner, ids_dtype
from ml_playground.data_pipeline.encoding import Chunk, in_order
from ml_playground.data_pipeline.team_member import ENCODE, LEARN, LEARNT, LOAD, read_message, write_message

# Batches on their way for each process: one in its hands, one that waits for it.
IN_FLIGHT = 2


class _Member:
    """One process, as the one that prepares sees it."""

    def __init__(self, kind_path: str) -> None:
        command = [sys.executable, "-P", "-m", "ml_playground.data_pipeline.team_member", kind_path]
        # One thread each: the processes are as many as there are cores.
        environment = os.environ | {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
        # A session of its own: Ctrl-C reaches the process that prepares alone.
        self._process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, start_new_session=True
        )
        self._requests = cast("BinaryIO", self._process.stdin)
        self._replies = cast("BinaryIO", self._process.stdout)

    def ask(self, request: bytes, parts: Iterable[bytes] = ()) -> list[bytes]:
        """Its answer.

        Raises:
            WorkerError: It has ended.
        """
        try:
            write_message(self._requests, [request, *parts])
            reply = read_message(self._replies)
        except (BrokenPipeError, ConnectionResetError):
            reply = None
        if reply is None:
            raise WorkerError(self._why_it_ended())
        return reply

    def _why_it_ended(self) -> str:
        # Its end of the pipe is closed, so it has ended or is about to.
        code = self._process.wait()
        how = f"was killed by signal {-code}, perhaps for want of memory" if code < 0 else f"ended with code {code}"
        return (
            f"A process that shared the work of preparing {how}; nothing was written. Prepare again with --workers 1, "
            "which needs the least memory, or with fewer workers than before."
        )

    def end(self) -> None:
        """Kill it, and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self._replies.close()
        try:
            self._requests.close()
        except BrokenPipeError:
            # What was still on its way to it is lost with it.
            return


class ProcessTeam:
    """Processes of one tokenizer kind; each answers one question at a time."""

    def __init__(self, members: Sequence[_Member], threads: ThreadPoolExecutor) -> None:
        self._members = members
        self._threads = threads
        self._idle: SimpleQueue[_Member] = SimpleQueue()
        for member in members:
            self._idle.put(member)

    def learn(self, batches: Iterable[Sequence[str]], learner: VocabularyLearner) -> None:
        """Let the learner take in all texts.

        Raises:
            WorkerError: A process has ended.
        """
        for _ in in_order(self._threads, self._learn, batches, self._at_once):
            pass
        for _, answer in in_order(self._threads, lambda member: member.ask(LEARNT), self._members, self._at_once):
            learner.absorb(answer[0])

    def encode(
        self, batches: Iterable[Sequence[Chunk]], tokenizer: BulkTokenizer, folder: Path
    ) -> Iterator[tuple[Sequence[Chunk], list[Ids]]]:
        """Each batch with its ids, in order; `folder` is where the tokenizer is saved.

        Raises:
            WorkerError: A process has ended.
        """
        dtype = ids_dtype(tokenizer.vocab_size)
        for member in self._members:
            member.ask(LOAD, [os.fsencode(folder)])
        for batch, answer in in_order(self._threads, self._encode, batches, self._at_once):
            yield batch, [np.frombuffer(ids, dtype=dtype) for ids in answer]

    @property
    def workers(self) -> int:
        """How many processes there are; 0: there is no team."""
        return len(self._members)

    @property
    def _at_once(self) -> int:
        return IN_FLIGHT * len(self._members)

    def _learn(self, texts: Sequence[str]) -> list[bytes]:
        return self._ask_anyone(LEARN, texts)

    def _encode(self, batch: Sequence[Chunk]) -> list[bytes]:
        return self._ask_anyone(ENCODE, [chunk.text for chunk in batch])

    def _ask_anyone(self, request: bytes, texts: Sequence[str]) -> list[bytes]:
        member = self._idle.get()
        try:
            return member.ask(request, [text.encode() for text in texts])
        finally:
            # A dead one, too: whoever waits for a free one must hear of it.
            self._idle.put(member)


@contextmanager
def process_team(kind_path: str, workers: int) -> Generator[ProcessTeam]:
    """So many processes, all of them gone afterwards, whatever happened.

    Args:
        kind_path: `module:name` of a SharedKind.
        workers: How many; 0: none, the team is there in name only.
    """
    members: list[_Member] = []
    threads = ThreadPoolExecutor(max(workers, 1), thread_name_prefix="prepare")
    try:
        for _ in range(workers):
            members.append(_Member(kind_path))  # noqa: PERF401 - those that were started must be ended if the next fails
        yield ProcessTeam(members, threads)
    finally:
        # First the processes: the threads that wait for them then wait no more.
        for member in members:
            member.end()
        threads.shutdown(cancel_futures=True)
