"""Making a data set of chats: count them, find copies, deal them out, render, mask, encode, describe; a chat at a time."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import cast

from ml_playground.configuration.base import Component
from ml_playground.configuration.families import PROFILES, TOKENIZERS
from ml_playground.configuration.models import PrepareSettings
from ml_playground.core.atomic import write_file
from ml_playground.core.chat_encoding import ChatEncoder, control_of, tokens_of
from ml_playground.core.chat_facts import NAME, TEMPLATE_NAME, ChatFacts
from ml_playground.core.chat_template import ChatTemplate
from ml_playground.core.error_handling import DataError
from ml_playground.core.registry import kind_of, load_object
from ml_playground.core.tokenizer_protocol import SPELLINGS, BulkTokenizer, TokenizerClass, marks_of
from ml_playground.core.values import ChatExample
from ml_playground.data_pipeline.chats.census import OR_DROP, Census, Dealt, deal_of, dealt_out, size_of, take_census
from ml_playground.data_pipeline.chats.chat_dataset import ChatManifest
from ml_playground.data_pipeline.chats.chat_ledger import BAD_ROW, BadRowPlace, ChatLedger, chat_imbalances
from ml_playground.data_pipeline.chats.checking import check_result
from ml_playground.data_pipeline.chats.masking import Masking
from ml_playground.data_pipeline.chats.protocol import BadRow, ChatProfile, ChatSource, RowFault
from ml_playground.data_pipeline.chats.row_making import RowMaker
from ml_playground.data_pipeline.chats.templates import PROVISIONAL, check_ends, template_text
from ml_playground.data_pipeline.chats.writing import ChatWriter, Row
from ml_playground.data_pipeline.manifest import MANIFEST_NAME, TOKENIZER_FOLDER, account_of
from ml_playground.data_pipeline.progress import Phase, PrepareProgress, Report
from ml_playground.data_pipeline.source_protocol import Provenance, changed_meanwhile, changes
from ml_playground.data_pipeline.storage.token_file import token_type
from ml_playground.data_pipeline.text_dataset import TokenizerFacts
from ml_playground.data_pipeline.tokenizer_files import changed_files, files_named_by, tokenizer_files
from ml_playground.data_pipeline.transforms.split import wanted

BATCH_CHARACTERS = 1 << 19
"""Of rendered chats that are encoded together: enough for all cores."""
MOST_PLACES = 10
"""Bad rows that the ledger names; the counts say the rest."""
PROFILE_SEED = 0
"""Profiles are seeded by their own settings; data sets do not depend on the seed of a run."""


def build_chats(
    folder: Path, settings: PrepareSettings, source: ChatSource, now: datetime, report: Report
) -> ChatManifest:
    """Fill an empty folder with chats; what it raises is what `prepare` raises."""
    made_of = files_named_by(settings)
    work = _Work(settings, now)
    report(PrepareProgress("fetching"))
    before = source.provenance()
    census = take_census(source, settings, report)
    deal = deal_of(settings, census)

    def dealt(phase: Phase) -> Iterator[Dealt]:
        return dealt_out(source, census, deal, phase, report, drops=settings.duplicates == "drop")

    tokenizer = work.tokenizer or work.learnt(dealt("learning"))
    (folder / TOKENIZER_FOLDER).mkdir()
    tokenizer.save(folder / TOKENIZER_FOLDER)
    writer = ChatWriter(folder, wanted(settings.test_fraction), tokenizer, token_type(tokenizer.vocab_size))
    with writer:
        places = _write(writer, dealt("encoding"), work.maker(tokenizer), ChatEncoder(tokenizer), settings)
    report(PrepareProgress("checking"))
    after = _unchanged(source, before)
    if changed := changed_files(made_of, files_named_by(settings)):
        raise changed_meanwhile(f"of its tokenizer's files {changed}")
    ledger = _ledger(census, after, writer, places)
    check_result(ledger, settings, writer.stop_ids)
    work.write_facts(folder / TOKENIZER_FOLDER, tokenizer, writer)
    attached = sorted(path for path in (folder / TOKENIZER_FOLDER).rglob("*") if path.is_file())
    manifest = ChatManifest(
        created_at=now,
        prepare=settings.model_dump(mode="json"),
        source=after,
        tokenizer=TokenizerFacts(kind=work.chosen.kind_name, fingerprint=tokenizer.fingerprint),
        tokenizer_files=made_of,
        vocab_size=tokenizer.vocab_size,
        token_type=token_type(tokenizer.vocab_size),
        pairs=census.pairs,
        ledger=ledger,
        files=writer.accounts() | {path.relative_to(folder).as_posix(): account_of(path) for path in attached},
    ).sealed()
    write_file(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def refusals(settings: PrepareSettings, now: datetime) -> Callable[[ChatExample], str | None]:
    """Says of a chat why preparing it with these settings would refuse it; None: it would not.

    Raises:
        ConfigError, DataError: The tokenizer's files, the template or the profile cannot be used.
    """
    work = _Work(settings, now)
    maker = work.maker(work.tokenizer) if work.tokenizer is not None else work.provisional()

    def refusal(chat: ChatExample) -> str | None:
        try:
            maker.rows(chat, 0)
        except RowFault as error:
            return str(error)
        return None

    return refusal


class _Work:
    """The template, the profile and the tokenizer of one data set."""

    def __init__(self, settings: PrepareSettings, now: datetime) -> None:
        """Raises ConfigError, DataError: The tokenizer's files or the template cannot be used; no chat is read for that."""
        self.chosen = cast(Component, settings.tokenizer)  # Every source of chats has one, which its settings see to.
        self._kind: TokenizerClass = load_object(kind_of(TOKENIZERS, self.chosen.kind_name).build)
        # What is made of files learns nothing from the chats.
        self.tokenizer = self._kind.train(("any",), self.chosen) if tokenizer_files(self.chosen) else None
        self._settings = settings
        self._today = now.date()
        self._text = template_text(settings.chat.template, self.tokenizer)
        self._sha256 = ChatTemplate(self._text).sha256
        check_ends(settings.chat.template, self.tokenizer)
        self._profile: ChatProfile | None = None
        if (chosen := settings.profile) is not None:
            self._profile = load_object(kind_of(PROFILES, chosen.kind_name).build)(chosen, PROFILE_SEED)

    def learnt(self, dealt: Iterator[Dealt]) -> BulkTokenizer:
        """The tokenizer that the training part teaches."""
        tokenizer = self._kind.train(_learning_texts(dealt, self.provisional()), self.chosen)
        check_ends(self._settings.chat.template, tokenizer)
        return tokenizer

    def provisional(self) -> RowMaker:
        """What makes rows while the tokenizer is still to be learnt."""
        return self._maker(PROVISIONAL, tuple(SPELLINGS.values()), ())

    def maker(self, tokenizer: BulkTokenizer) -> RowMaker:
        """What makes rows for a tokenizer."""
        return self._maker(tokens_of(tokenizer), control_of(tokenizer), tuple(marks_of(tokenizer)))

    def _maker(self, tokens: dict[str, str], control: Sequence[str], marks: Sequence[str]) -> RowMaker:
        template = ChatTemplate(self._text, tokens=tokens, control=control, today=self._today)
        return RowMaker(Masking(template, self._settings.chat, control, marks), self._profile, self._today)

    def write_facts(self, folder: Path, tokenizer: BulkTokenizer, writer: ChatWriter) -> None:
        """What goes out with every checkpoint: how chats are rendered, and what ends an answer."""
        profile = self._settings.profile
        facts = ChatFacts(
            stop_ids=writer.stop_ids,
            template_sha256=self._sha256,
            today=self._today,
            tokens=tokens_of(tokenizer),
            control=control_of(tokenizer),
            profile=None if profile is None else profile.model_dump(mode="json"),
            seed=PROFILE_SEED,
            held_out=writer.held_out,
        )
        write_file(folder / NAME, facts.text)
        write_file(folder / TEMPLATE_NAME, self._text)


def _unchanged(source: ChatSource, before: Provenance) -> Provenance:
    """The account of a source that is read no more; an error where it is not what it was before."""
    after = source.provenance()
    if before.content != after.content:
        raise changed_meanwhile(changes(before, after))
    return after


def _ledger(census: Census, source: Provenance, writer: ChatWriter, bad: Sequence[BadRowPlace]) -> ChatLedger:
    """The books, closed and checked.

    Raises:
        RuntimeError: They do not balance.
    """
    ledger = ChatLedger(
        files_found=len(source.files) + len(source.skipped),
        files_used=len(source.files),
        files_skipped=dict(Counter(file.reason for file in source.skipped)),
        chats=len(census.kinds),
        copies=len(census.originals),
        splits=writer.splits,
        dropped=writer.dropped,
        bad_rows=tuple(bad),
        lost_rows=writer.lost_rows,
    )
    if found := chat_imbalances(ledger):
        raise RuntimeError(f"the ledger does not balance: {'; '.join(found)}")
    return ledger


def _learning_texts(dealt: Iterator[Dealt], maker: RowMaker) -> Iterator[str]:
    """The training part as it will be rendered, cut at special tokens, which are none of the text.

    Raises:
        DataError: Not one row can be rendered.
    """
    fault, rendered = "", False
    marks = re.compile("|".join(map(re.escape, SPELLINGS.values())))
    for one in dealt:
        if one.place == "train" and isinstance(one.chat, ChatExample):
            try:
                rows = maker.rows(one.chat, one.number)
            except RowFault as error:
                # It is judged when it is to be encoded, with the tokenizer's own special tokens.
                fault = fault or f"{one.chat.id}: {error}"
                continue
            rendered = True
            for row in rows:
                yield from filter(None, marks.split(row.rendered.text))
    if fault and not rendered:
        raise DataError(
            f"There is no text to learn a vocabulary from, for no row can be trained on; the first is {fault}."
        )


def _write(
    writer: ChatWriter, dealt: Iterator[Dealt], maker: RowMaker, encoder: ChatEncoder, settings: PrepareSettings
) -> list[BadRowPlace]:
    """Render, mask, encode and write all chats; the first rows that are dropped come back.

    Raises:
        DataError: A row cannot be trained on, and the settings do not say that it is dropped.
    """
    bad: list[BadRowPlace] = []
    rows: list[Row] = []
    held = 0

    def flush() -> None:
        writer.write(rows, encoder.encode([row.chat.rendered for row in rows], [row.chat.borders for row in rows]))
        rows.clear()

    def leave_out(row_id: str, reason: str, characters: int) -> None:
        writer.leave_out(BAD_ROW, characters)
        if len(bad) < MOST_PLACES:
            bad.append(BadRowPlace(id=row_id, reason=reason))

    for one in dealt:
        if isinstance(one.chat, BadRow):
            leave_out(one.chat.id, one.chat.reason, one.chat.characters)
            continue
        try:
            found = maker.rows(one.chat, one.number)
        except RowFault as error:
            if settings.chat.on_bad_row == "error":
                raise DataError(f"{one.chat.id}: {error}; {OR_DROP}.") from error
            leave_out(one.chat.id, str(error), size_of(one.chat))
            continue
        rows += [Row(one.chat.id, one.place, row, one.chat.facts, first=not place) for place, row in enumerate(found)]
        held += sum(len(row.rendered.text) for row in found)
        if held >= BATCH_CHARACTERS:
            flush()
            held = 0
    flush()
    return bad
