"""Read many files at once, in several processes."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

from rnade_lightning.datamodules.core import DataError


def read_in_processes(
    read: Callable[[Path], Any], files: Sequence[Path], n_processes: int
) -> Iterator[Any]:
    """Yield what ``read`` returns for each file, in order.

    Raises:
        DataError: a process died.
    """
    n_processes = min(n_processes, len(files))
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(n_processes, context, _begin, (read, os.getpid()))
    try:
        share = max(1, min(16, len(files) // (8 * n_processes)))
        yield from pool.map(_read, files, chunksize=share)
    except BrokenProcessPool:
        raise DataError(
            f"{files[0].parent}: a process that reads files died, perhaps for lack of memory:"
            " finished files are kept: start again"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


_reader: Callable[[Path], Any]  # of a process that reads files


def _begin(read: Callable[[Path], Any], parent: int) -> None:
    """Start a process that reads files; it ends with the process that started it."""
    global _reader
    _reader = read
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _read(path: Path) -> Any:
    return _reader(path)
