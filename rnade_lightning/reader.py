"""Write to a reader that may go, as `head` does after ten lines."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def to_a_reader() -> Iterator[None]:
    """End the process without a word where nobody reads its output any longer, with the status of
    a program that SIGPIPE ended."""
    try:
        try:
            yield
        except SystemExit:  # as after a page of help
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except BrokenPipeError:
        if not _reader_has_gone(sys.stdout.fileno()):
            raise  # of another pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is left
        sys.exit(128 + signal.SIGPIPE)


def _reader_has_gone(pipe: int) -> bool:
    polled = select.poll()
    polled.register(pipe, 0)  # an end that is closed is told in any case
    return bool(polled.poll(0))
