"""Says in one line why this interpreter cannot make the environment; runs on any Python 3."""

import sys

OLDEST = (3, 11)


def problem():
    """What is wrong, and what to do; an empty text where nothing is."""
    if sys.version_info[:2] < OLDEST:
        return (
            "Python 3.11 or newer is needed, and this is {}.{}. Name another one: make PYTHON=python3.12 setup".format(
                *sys.version_info[:2]
            )
        )
    try:
        import ensurepip  # noqa: F401, PLC0415
        import venv  # noqa: F401, PLC0415
    except ImportError as error:
        return (
            f"This Python comes without the module {error.name!r}, which makes environments; install it "
            "(Debian, Ubuntu: apt install python3-venv), or name another one: make PYTHON=/path/to/python3 setup"
        )
    return ""


if __name__ == "__main__":
    sys.exit(problem() or 0)
