"""Making a data set of chats: count them, find copies, deal them out, render, mask, encode, describe; a chat at a time."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

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
from ml_playground.data_pipeline.chats.census import OR_DROP, Dealt, deal_of, dealt_out, size_of, take_census
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
from ml_playground.data_pipeline.source_protocol import SourceFile, changed_meanwhile, changes
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
    chosen = cast(Component, settings.tokenizer)  # Every source of chats has one, which its settings see to.
    made_of = files_named_by(settings)
    kind: TokenizerClass = load_object(kind_of(TOKENIZERS, chosen.kind_name).build)
    # What is made of files learns nothing from the chats, so it is tried before one is read.
    tokenizer = kind.train(("any",), chosen) if tokenizer_files(chosen) else None
    text = template_text(settings.chat.template, tokenizer)
    ChatTemplate(text)
    report(PrepareProgress("fetching"))
    before = source.provenance()
    census = take_census(source, settings, report)
    deal = deal_of(settings, census)
    profile = _profile(settings)

    def dealt(phase: Phase) -> Iterator[Dealt]:
        return dealt_out(source, census, deal, phase, report, drops=settings.duplicates == "drop")

    if tokenizer is None:
        maker = _maker(settings, text, PROVISIONAL, tuple(SPELLINGS.values()), (), profile, now)
        tokenizer = kind.train(_learning_texts(dealt("learning"), maker), chosen)
    check_ends(settings.chat.template, tokenizer)
    (folder / TOKENIZER_FOLDER).mkdir()
    tokenizer.save(folder / TOKENIZER_FOLDER)
    control, tokens = control_of(tokenizer), tokens_of(tokenizer)
    maker = _maker(settings, text, tokens, control, tuple(marks_of(tokenizer)), profile, now)
    splits = wanted(settings.test_fraction)
    writer = ChatWriter(folder, splits, tokenizer, token_type(tokenizer.vocab_size))
    with writer:
        places = _write(writer, dealt("encoding"), maker, ChatEncoder(tokenizer), settings)
    report(PrepareProgress("checking"))
    after = source.provenance()
    if before.content != after.content:
        raise changed_meanwhile(changes(before, after))
    if changed := changed_files(made_of, files_named_by(settings)):
        raise changed_meanwhile(f"of its tokenizer's files {changed}")
    ledger = ChatLedger(
        files_found=len(after.files) + len(after.skipped),
        files_used=len(after.files),
        files_skipped=dict(Counter(file.reason for file in after.skipped)),
        chats=census.total,
        copies=len(census.copies),
        splits=writer.splits,
        dropped=writer.dropped,
        bad_rows=tuple(places),
        lost_rows=writer.lost_rows,
    )
    check_result(ledger, settings, writer.stop_ids)
    if found := chat_imbalances(ledger):
        raise RuntimeError(f"the ledger does not balance: {'; '.join(found)}")
    facts = ChatFacts(
        stop_ids=writer.stop_ids,
        template_sha256=ChatTemplate(text).sha256,
        today=now.date(),
        tokens=tokens,
        control=control,
        profile=None if settings.profile is None else settings.profile.model_dump(mode="json"),
        seed=PROFILE_SEED,
        held_out=writer.held_out,
    )
    write_file(folder / TOKENIZER_FOLDER / NAME, facts.text)
    write_file(folder / TOKENIZER_FOLDER / TEMPLATE_NAME, text)
    return _described(folder, settings, tokenizer, ledger, writer, made_of, after, now, pairs=census.pairs)


def _described(
    folder: Path,
    settings: PrepareSettings,
    tokenizer: BulkTokenizer,
    ledger: ChatLedger,
    writer: ChatWriter,
    made_of: Sequence[SourceFile],
    source: Any,
    now: datetime,
    *,
    pairs: bool,
) -> ChatManifest:
    """The manifest, written last."""
    attached = sorted(path for path in (folder / TOKENIZER_FOLDER).rglob("*") if path.is_file())
    manifest = ChatManifest(
        created_at=now,
        prepare=settings.model_dump(mode="json"),
        source=source,
        tokenizer=TokenizerFacts(kind=cast(Component, settings.tokenizer).kind_name, fingerprint=tokenizer.fingerprint),
        tokenizer_files=tuple(made_of),
        vocab_size=tokenizer.vocab_size,
        token_type=token_type(tokenizer.vocab_size),
        pairs=pairs,
        ledger=ledger,
        files=writer.accounts() | {path.relative_to(folder).as_posix(): account_of(path) for path in attached},
    ).sealed()
    write_file(folder / MANIFEST_NAME, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def _learning_texts(dealt: Iterator[Dealt], maker: RowMaker) -> Iterator[str]:
    """The training part as it will be rendered, cut at special tokens, which are none of the text."""
    marks = re.compile("|".join(map(re.escape, SPELLINGS.values())))
    for one in dealt:
        if one.place == "train" and isinstance(one.chat, ChatExample):
            try:
                rows = maker.rows(one.chat, one.number)
            except RowFault:
                continue  # It is judged when it is to be encoded, with the tokenizer's own special tokens.
            for row in rows:
                yield from filter(None, marks.split(row.rendered.text))


def _maker(
    settings: PrepareSettings,
    text: str,
    tokens: dict[str, str],
    control: Sequence[str],
    marks: Sequence[str],
    profile: ChatProfile | None,
    now: datetime,
) -> RowMaker:
    template = ChatTemplate(text, tokens=tokens, control=control, today=now.date())
    return RowMaker(Masking(template, settings.chat, control, marks), profile, now.date())


def _profile(settings: PrepareSettings) -> ChatProfile | None:
    if settings.profile is None:
        return None
    return load_object(kind_of(PROFILES, settings.profile.kind_name).build)(settings.profile, PROFILE_SEED)


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
