"""Models of the Hugging Face hub that lie on this machine: `hub:ORG/NAME` is the folder to which the hub's own tools fetched it.

Nothing is fetched here. Where such folders lie: https://huggingface.co/docs/huggingface_hub/guides/manage-cache
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

HUB_MARK = "hub:"
"""Before the name of a model, in the place of a path."""

_NAME = re.compile(r"(?P<repository>[\w][\w.-]*(?:/[\w][\w.-]*)?)(?:@(?P<revision>[\w][\w.-]*))?")
_MOST_REVISION_BYTES = 100


def snapshot(name: str, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of a model that was fetched before.

    Args:
        name: `ORG/NAME`, or `ORG/NAME@REVISION`, a branch, a tag or a commit; without it the branch main.
        environ: `HF_HUB_CACHE`, `HF_HOME` and `XDG_CACHE_HOME` say where the hub's tools keep what they fetch.

    Raises:
        ValueError: It is no such name, or was not fetched; says how to.
    """
    found = _NAME.fullmatch(name)
    if found is None or ".." in name or "--" in name:
        raise ValueError(f"{name!r} is no name of the hub; write ORG/NAME or ORG/NAME@REVISION")
    repository, revision = found["repository"], found["revision"] or "main"
    place = cache_folder(environ) / f"models--{repository.replace('/', '--')}"
    try:
        with (place / "refs" / revision).open("rb") as stream:
            commit = stream.read(_MOST_REVISION_BYTES).decode("ascii", "replace").strip()
    except OSError:
        commit = revision
    folder = place / "snapshots" / commit
    if not re.fullmatch(r"[\w.-]+", commit) or not folder.is_dir():
        wanted = f" --revision {revision}" if found["revision"] else ""
        raise ValueError(
            f"{repository} at {revision} is not among what was fetched ({place}); with a network: hf download {repository}{wanted}"
        )
    return folder


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where the hub's tools keep what they fetch."""
    if cache := environ.get("HF_HUB_CACHE"):
        return Path(cache)
    caches = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(environ.get("HF_HOME") or caches / "huggingface") / "hub"
