"""Which column of a row says what: by the settings, else by its name, in German or English."""

import re
from collections.abc import Mapping, Sequence

from ml_playground.core.error_handling import ConfigError, DataError
from ml_playground.core.registry import did_you_mean
from ml_playground.data_pipeline.sources.settings import RowSettings

CONTENT = "content"
NAMES: Mapping[str, tuple[str, ...]] = {
    CONTENT: (
        *("content", "text", "speech", "speechcontent", "speechtext"),
        *("inhalt", "rede", "redetext", "redeinhalt", "beitrag", "wortlaut", "volltext", "fulltext"),
        *("body", "article", "artikel", "document", "dokument", "story", "message", "nachricht"),
    ),
    "speaker": (
        *("speaker", "speakername", "sprecher", "sprecherin", "redner", "rednerin", "rednername"),
        *("author", "autor", "autorin", "name", "fullname", "person", "politician", "abgeordneter", "who"),
    ),
    "party": ("party", "partei", "partyname", "fraktion", "faction", "parliamentarygroup", "gruppe"),
    "date": ("date", "datum", "speechdate", "sitzungsdatum", "tag", "day", "year", "jahr"),
    "topic": (
        *("topic", "thema", "agenda", "agendaitem", "tagesordnungspunkt", "top"),
        *("subject", "betreff", "title", "titel"),
    ),
}
"""What columns are called, by what they say: letters and digits only, small. Of several, the first of these is taken."""
SHOWN_COLUMNS = 12

_NO_LETTER = re.compile(r"[\W_]+")


def role_of(name: str) -> str | None:
    """What a column of this name says, if its name tells."""
    plain = _plain(name)
    return next((role for role, known in NAMES.items() if plain in known), None)


def found_columns(names: Sequence[str], settings: RowSettings, where: str) -> dict[str, str]:
    """For each role that a column has, that column.

    Args:
        names: All columns.
        settings: Those that say a column come first.
        where: The file, for messages.

    Raises:
        DataError: Two columns may be meant.
    """
    found: dict[str, str] = {}
    called: dict[str, list[str]] = {}
    for name in names:
        called.setdefault(_plain(name), []).append(name)
    for role, known in NAMES.items():
        if (chosen := chosen_column(settings, role)) is not None:
            found[role] = chosen
            continue
        for word in known:
            candidates = called.get(word, ())
            if len(candidates) > 1 and len(set(candidates)) == 1:
                raise DataError(
                    f"{where} has {len(candidates)} columns called {candidates[0]!r}; give each a name of its own."
                )
            if len(candidates) > 1:
                raise DataError(
                    f"{where} has {len(candidates)} columns that may be the {role}: {listed(candidates)}. "
                    f"Set prepare.source.{role}_column to one of them."
                )
            if candidates:
                found[role] = candidates[0]
                break
    return found


def chosen_column(settings: RowSettings, role: str) -> str | None:
    """The column that the settings name for a role."""
    return {
        CONTENT: settings.content_column,
        "speaker": settings.speaker_column,
        "party": settings.party_column,
        "date": settings.date_column,
        "topic": settings.topic_column,
    }[role]


def check_columns(names: Sequence[str], wanted: Mapping[str, str | None], where: str, hint: str = "") -> None:
    """Make sure that a table has every column that is read.

    Args:
        names: All columns.
        wanted: What stands in the template, or a role -> its column, None where none was found.
        where: The file.
        hint: What else may be wrong, a sentence of its own.

    Raises:
        DataError: The text is in no column by its name, or a role of the template is in none.
        ConfigError: The settings name a column that is not there.
    """
    has = f"{where} has the columns {listed(names)}"
    for name, column in wanted.items():
        role = "date" if name == "year" else name
        if column is not None:
            if column not in names:
                key = f"prepare.source.{role}_column = {column!r}" if role in NAMES else f"{{{name}}} in the template"
                raise ConfigError(f"{key} is none of the columns{did_you_mean(column, names)}: {has}.{hint}")
            if names.count(column) > 1:
                raise DataError(f"{has}, {column!r} more than once; give each a name of its own.")
        elif name == CONTENT:
            raise DataError(f"{has}, none of which is called like a text; set prepare.source.content_column.{hint}")
        else:
            raise DataError(
                f"{has}, none of which is called like a {role}, which {{{name}}} in prepare.source.template asks for; "
                f"set prepare.source.{role}_column, or leave {{{name}}} out."
            )


def listed(names: Sequence[str]) -> str:
    """The first few names as a message shows them."""
    shown = ", ".join(repr(name[:60]) for name in names[:SHOWN_COLUMNS]) or "none at all"
    return f"{shown} and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else shown


def _plain(name: str) -> str:
    return _NO_LETTER.sub("", name).casefold()
