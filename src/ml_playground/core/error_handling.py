"""Errors whose text is all that a user needs: what, where, got, allowed, what to do."""


class PlaygroundError(Exception):
    """Something that its user can mend; ends the command with exit code 2 and its text alone."""


class ConfigError(PlaygroundError):
    """A setting is unknown, malformed, out of range, or contradicts another one."""


class DataError(PlaygroundError):
    """A source or a prepared data set is missing, unreadable, too short, or not what its manifest says."""


class CheckpointError(PlaygroundError):
    """A checkpoint is missing, incomplete, damaged, or does not fit the job."""


class RunError(PlaygroundError):
    """A run folder is missing, in use, or belongs to another job."""


class StorageError(PlaygroundError):
    """A file could not be written: full disk, missing right, read-only folder."""


class WorkerError(PlaygroundError):
    """A process that shares the work has ended before the work was done."""
