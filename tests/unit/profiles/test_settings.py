"""What settings of profiles refuse, in words."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ml_playground.configuration.base import Component
from ml_playground.profiles.settings import EmojiThink, PlainSft, Regime3


@pytest.mark.parametrize(
    ("settings_class", "fields", "message"),
    [
        (PlainSft, {"date": "2026-02-30"}, "2026-02-30 is no day of the calendar"),
        (
            PlainSft,
            {"text_bias": {"": 1.0}},
            "text_bias names the empty text, which every token completes; name a text",
        ),
        (PlainSft, {"bias_schedule": ["4x8"]}, "bias_schedule has no effect, for text_bias names no text"),
        (PlainSft, {"text_bias": {"a": 1.0}, "bias_schedule": ["4 x 8"]}, "should match pattern"),
        (EmojiThink, {"least_stops": 4, "most_stops": 3}, "least_stops = 4 is above most_stops = 3"),
        (EmojiThink, {"least_thinking": 9}, "least_thinking = 9 is above most_thinking = 8"),
        (EmojiThink, {"thinking_emojis": ["⏹"]}, "'⏹️' begins like '⏹' in thinking_emojis and stop_emojis"),
        (EmojiThink, {"stop_emojis": ["🛑", "🛑"]}, "'🛑' begins like '🛑' in thinking_emojis and stop_emojis"),
        (EmojiThink, {"stop_emojis": ["stop"]}, "should match pattern"),
        (EmojiThink, {"stop_emojis": []}, "at least 1 item"),
        (EmojiThink, {"most_stops": 13}, "less than or equal to 12"),
        (EmojiThink, {"emoji_fraction": 1.5}, "less than or equal to 1"),
        (Regime3, {"start_mark": "<a>", "end_mark": "<a>"}, "'<a>' and end_mark = '<a>' must not contain each other"),
        (Regime3, {"start_mark": "answer:", "end_mark": "a"}, "must not contain each other"),
        (Regime3, {"end_mark": "<< >>"}, "should match pattern"),
        (Regime3, {"commutative": ["add", "a b"]}, "should match pattern"),
        (Regime3, {"penalty_growth": 0.5}, "greater than or equal to 1"),
    ],
)
def test_settings_refuse_what_makes_no_sense(
    settings_class: type[Component], fields: dict[str, Any], message: str
) -> None:
    """Each message says what is wrong."""
    with pytest.raises(ValidationError) as refused:
        settings_class.model_validate_json(json.dumps(fields))
    assert message in str(refused.value)
