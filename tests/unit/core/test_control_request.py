"""What may be asked of a running job."""

import pytest
from pydantic import ValidationError

from ml_playground.core.run_schema import ControlRequest


@pytest.mark.parametrize("text", ['{"action": "set_lr_factor"}', '{"action": "pause", "lr_factor": 0.5}'])
def test_control_request_factor_and_action_apart_is_refused(text: str) -> None:
    """A factor that nobody reads, or an action without what it needs, is a mistake of whoever wrote it."""
    with pytest.raises(ValidationError, match="lr_factor goes with set_lr_factor and with nothing else"):
        ControlRequest.model_validate_json(text)
