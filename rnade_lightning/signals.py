"""Signals that end a run, each where training can be taken up again.

While a model trains, a signal waits for the end of the step, after which a callback keeps the state
and ends the run. At any other time, and when SIGINT comes a second time, it ends the run at once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupted(BaseException):
    """A signal ends the run.

    Attributes:
        signum: its number.
        status: status of the process by convention, 128 and the number.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum, self.status = signum, 128 + signum


class SignalWatch:
    """The handlers of one process.

    Attributes:
        pending: the signal that waits for the end of a step, None for none.
    """

    def __init__(self) -> None:
        self.pending: int | None = None
        self._waiting, self._owner, self._came = False, 0, 0.0
        self._before: dict[int, Any] = {}  # handlers by signal, as they were found

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle SIGTERM and SIGINT inside the block, and set the handlers back after it. Do
        nothing outside the main thread, where Python does not allow it, or inside another block."""
        if self._before or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._owner, self.pending, self._waiting = os.getpid(), None, False
        self.add(signal.SIGTERM)
        self.add(signal.SIGINT)
        try:
            yield
        finally:
            before, self._before = self._before, {}
            for signum, handler in before.items():
                signal.signal(signum, handler or signal.SIG_DFL)

    def add(self, signum: int) -> None:
        """Handle one more signal until the block ends."""
        if self._owner == os.getpid() and threading.current_thread() is threading.main_thread():
            self._before[signum] = signal.signal(signum, self._handle)

    def wait(self) -> None:
        """Let signals wait for the end of a step from now on, also where other code has set
        handlers since."""
        if self._before:
            self._waiting = True
            for signum in self._before:
                signal.signal(signum, self._handle)

    def go_on(self) -> None:
        """Let signals end the run at once again, among them one that waits."""
        self._waiting = False
        if self.pending is not None:
            raise Interrupted(self.pending)

    @property
    def waited(self) -> float:
        """Seconds since the signal that waits came; 0 for none."""
        return time.monotonic() - self._came if self.pending is not None else 0.0

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._owner:  # a process that was forked, such as a loader's worker
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
            return
        impatient = signum == signal.SIGINT and self.pending == signal.SIGINT
        if self._waiting and not impatient:
            if self.pending is None:
                self.pending, self._came = signum, time.monotonic()
            return
        raise Interrupted(signum)


watch = SignalWatch()
"""The handlers of this process."""
