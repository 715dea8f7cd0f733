"""Compile functions with numba, and keep the code on disk until their sources change."""

import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

from numba import njit
from numba.core import event


class _Announce(event.Listener):
    """Says once that code is being compiled: the first use on a machine takes a while."""

    said = os.environ.get("LOCAL_RANK", "0") != "0"
    modules: ClassVar[set[str]] = set()

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if not _Announce.said and function.__module__ in self.modules:
            _Announce.said = True
            print("compiling for this processor, once (under a minute) ..", file=sys.stderr)

    def on_end(self, event: Any) -> None:
        pass


event.install_listener("numba:compile", _Announce())


def kept(sources: Iterable[str | Path], **how: Any) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that compiles functions, and keeps them on disk where possible.

    numba asks for the age of a function's own file only, but holds what it calls inlined.

    Args:
        sources: files whose code the functions run: with a change of any of them they are compiled
            anew.
        **how: options of `numba.njit`.
    """
    content = b"".join(Path(source).read_bytes() for source in sources)
    stamp = hashlib.sha256(content).hexdigest()

    def compiled(function: Callable[..., Any]) -> Any:
        _Announce.modules.add(function.__module__)
        try:
            done: Any = njit(cache=True, **how)(function)
        except RuntimeError:  # no folder that can be written to
            return njit(**how)(function)
        done._cache._cache_file._source_stamp = stamp
        return done

    return compiled
