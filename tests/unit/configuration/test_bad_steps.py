"""Settings about steps that go wrong, and what does not go together."""

import pytest
from pydantic import ValidationError

from ml_playground.configuration.models import TrainSettings


def test_spikes_that_are_to_be_skipped_are_refused_with_the_way_out() -> None:
    """The device would have to know what the host reads later."""
    message = (
        "spike_factor = 8 does not go with on_bad_step = 'skip': the device skips a step before anybody knows the losses "
        "around it; set on_bad_step = 'roll_back', or spike_factor = 0"
    )
    with pytest.raises(ValidationError, match=message):
        TrainSettings(max_steps=5, on_bad_step="skip", spike_factor=8.0)
    assert TrainSettings(max_steps=5, on_bad_step="stop", spike_factor=8.0).spike_factor == 8
