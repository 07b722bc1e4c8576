"""What each profile makes of small chats, word by word; a change of it is a change of everybody's training data.

Renew: python -m tests.unit.profiles.test_golden
"""

import json
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from ml_playground.configuration.base import settings_of
from ml_playground.configuration.families import PROFILES
from ml_playground.core.registry import load_object
from tests.fakes.small_chats import SMALL_CHATS

FOLDER = Path(__file__).parents[2] / "golden" / "profiles"
DAY = date(2026, 11, 22)
INDEXES = range(4)


def made_by(kind: str) -> dict[str, Any]:
    """Name of a chat -> for each index: what it becomes, what is wrong with it, and what of its answer is scored."""
    profile = load_object(PROFILES[kind].build)(settings_of("profile", kind)(), 1337)
    found: dict[str, Any] = {}
    for name, chat in SMALL_CHATS.items():
        for index in INDEXES:
            made = profile.transform(chat, index)
            messages = [asdict(message) for message in profile.prompted(made.messages, DAY)]
            answer = profile.answer_of(messages[-1]["content"]) if messages[-1]["role"] == "assistant" else None
            found[f"{name}, {index}"] = {
                "messages": [{"role": message["role"], "content": message["content"]} for message in messages],
                "rejected": [message.content for message in made.rejected],
                "problems": list(profile.validate(made)),
                "answer": answer,
            }
    return found


def test_every_kind_has_a_golden_file() -> None:
    """A new kind is written down, too."""
    assert {path.stem for path in FOLDER.iterdir()} == set(PROFILES.shipped)


@pytest.mark.parametrize("kind", PROFILES.shipped)
def test_profile_makes_what_it_made_before(kind: str) -> None:
    """Transformed chats, their problems and answers, for four indexes."""
    assert made_by(kind) == json.loads((FOLDER / f"{kind}.json").read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name in PROFILES.shipped:
        text = json.dumps(made_by(name), indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
