"""The parts that all kinds of data share: files, frame store, splits, standardising, batches."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
"""Numbers in float64; shapes stand where it is used."""


class DataError(ValueError):
    """Data that cannot be used; the message is one line that names the file and what to do."""
