"""How much the memory of this process grows over a piece of work, at its highest."""

from ml_playground.core.process_memory import forget_peak, peak_bytes, resident_bytes


class Growth:
    """Begins to watch when it is made; where the system cannot forget an older peak, only what lies above that is seen."""

    def __init__(self) -> None:
        self._before = (resident_bytes() if forget_peak() else peak_bytes()) or 0

    @property
    def bytes(self) -> int:
        """By how much the most that was held since lies above what was held then."""
        return (peak_bytes() or 0) - self._before
