"""What every kind of data has in common: files, frame store, splits, standardising, batches."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
"""Numbers in float64; shapes stand where it is used."""


class DataError(ValueError):
    """Data that cannot be used; the message is one line that names the file and what to do."""


class MachineError(DataError):
    """What the machine could not do, such as write to a full disk; no file is to blame, so that
    none is left out for it."""
