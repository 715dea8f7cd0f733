"""Compile functions whose numbers must be the same on every machine.

No operation is reordered, none is fused with another, and Python's own checks of division are left
out: code as it is written, by IEEE 754.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


def compiler(*sources: str) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles functions and keeps them on disk where possible.

    Args:
        *sources: files whose code the functions run, their own and those they call into: with a
            change of any of them they are compiled anew.
    """
    content = b"".join(Path(source).read_bytes() for source in sources)
    stamp = hashlib.sha256(content).hexdigest()

    def compiled(function: Callable[..., Any]) -> Any:
        how: Any = {"error_model": "numpy", "nogil": True}
        try:
            done: Any = numba.njit(cache=True, **how)(function)
        except RuntimeError:  # no folder that can be written to
            return numba.njit(**how)(function)
        # numba asks for the age of the function's own file only, but holds what it calls inlined
        done._cache._cache_file._source_stamp = stamp
        return done

    return compiled
