"""Where a folder may be written: never over, around or into what it is made of."""

from collections.abc import Mapping
from pathlib import Path

from ml_playground.core.error_handling import ConfigError


def refuse_sources(place: Path, sources: Mapping[str, Path]) -> None:
    """Refuse a place that is a folder which is read, holds one, or lies in one; links and spellings of the same folder are seen through.

    Args:
        place: Which will be replaced as a whole.
        sources: What each folder is, and the folder; one that is not there is passed over.

    Raises:
        ConfigError: It is so.
    """
    for what, source in sources.items():
        if not source.exists():
            continue
        if _is_within(source, place):
            how = "is" if place.samefile(source) else "holds"
            raise ConfigError(
                f"--out {place} {how} {what} ({source}), which is read for it and may be needed again, and writing would replace it; "
                "name another folder."
            )
        if _is_within(place, source):
            raise ConfigError(
                f"--out {place} lies in {what} ({source}), which is read for it and stays as it is; name another folder."
            )


def _is_within(inner: Path, outer: Path) -> bool:
    """Whether a path is a folder or lies in it, wherever links lead."""
    if not outer.exists():
        return False
    real = inner.resolve()
    return any(folder.exists() and folder.samefile(outer) for folder in (real, *real.parents))
