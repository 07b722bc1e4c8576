"""What a recorded job says of a third-party model: a checkpoint that a stranger made is held to the bounds of a stranger's folder."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from ml_playground.models.hugging_face.settings import HfCausalLm

PLAIN: dict[str, Any] = {"model_type": "qwen2", "num_hidden_layers": 1, "vocab_size": 40}


def recorded(config: str) -> HfCausalLm:
    """As a checkpoint's config.json holds it."""
    return HfCausalLm.model_validate_json(json.dumps({"path": "/away", "config": config}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{not", "Expecting property name"),
        ("[]", "it holds no JSON object"),
        ("[" * 100_000, "it is nested too deeply"),
        ('{"a":' * 60 + "1" + "}" * 60, "nested deeper than 50 levels"),
        (json.dumps({"num_hidden_layers": 1}), "it names no model_type"),
        (json.dumps(PLAIN | {"num_hidden_layers": 10**7}), "num_hidden_layers = 10000000 is more than 4096"),
        (json.dumps(PLAIN | {"rope_theta": float("inf")}), "a number that is infinite or none"),
    ],
)
def test_recorded_config_beyond_bounds_is_refused_before_the_library_hears_of_it(config: str, message: str) -> None:
    """Ten million layers would be built one by one, and brackets end in a traceback."""
    with pytest.raises(ValidationError, match=message) as error:
        recorded(config)
    assert [fault["loc"] for fault in error.value.errors()] == [("config",)]


def test_recorded_config_loses_what_names_code_and_keeps_the_rest() -> None:
    """As of a folder: kernels and code that it names are not for us to fetch."""
    hostile = {"auto_map": {"AutoModel": "evil.M"}, "attn_implementation": "evil/kernel", "_name_or_path": "evil/model"}
    assert recorded(json.dumps(PLAIN | hostile)) == recorded(json.dumps(PLAIN))
    assert json.loads(recorded(json.dumps(PLAIN)).config or "") == PLAIN
