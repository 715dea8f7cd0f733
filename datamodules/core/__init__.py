"""The parts that all kinds of data share: files, frame store, splits, standardising, batches."""

import errno

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
"""Numbers in float64; shapes stand where it is used."""


class DataError(ValueError):
    """Data that cannot be used; the message is one line that names the file and what to do."""


class MachineError(DataError):
    """Something the machine could not do, such as write to a full disk. No file is to blame, so
    none is left out for it."""


_SHORT_OF = {errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
"""Numbers of errors that say that the machine is short of something, whatever the file."""


def short_of(error: BaseException | None) -> str | None:
    """Return what the machine was short of when an error was raised, however it is wrapped; None
    where it was short of nothing."""
    while error is not None:
        if isinstance(error, MemoryError):
            return "not enough memory: close other programs, or use a machine with more"
        if isinstance(error, OSError) and error.errno in _SHORT_OF:
            return f"{reason_of(error)}, which is no fault of the file: make room, then start again"
        error = error.__cause__ or error.__context__
    return None


def reason_of(error: BaseException) -> str:
    """Return the system's words for an error, or its own."""
    return str(getattr(error, "strerror", None) or error)
