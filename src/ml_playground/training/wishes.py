"""What was wished and lasts: the factor on the learning rate, and what a resumed run must do again."""

from ml_playground.core.values import Wish
from ml_playground.training.hook_protocols import Journal


class Wishes:
    """Takes over lasting wishes, and writes each into the journal once."""

    def __init__(self, journal: Journal, lr_factor: float) -> None:
        self._journal = journal
        self.lr_factor = lr_factor
        """In force for the next step."""

    def obey(self, step: int, asked: Wish) -> None:
        """Take over a learning-rate factor from the next step on, and remember it."""
        if asked.lr_factor is not None:
            self.lr_factor = asked.lr_factor
            self.remember(step, Wish(lr_factor=asked.lr_factor))

    def remember(self, step: int, lasting: Wish) -> None:
        """Write down what is to be obeyed again when this step is done again."""
        recorded = self._journal.recorded(step)
        if recorded | lasting != recorded:
            self._journal.record(step, lasting)
