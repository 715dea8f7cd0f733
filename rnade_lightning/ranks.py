"""The processes (ranks) of one run: what differs between them, and what is said of a lost one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")
GRACE = 3.0
"""Seconds that this process has to end by itself, by the error that a child has ended by."""


def of_every_rank(value: T) -> list[T]:
    """Return the values of all ranks, by rank. All ranks have to call it.

    Args:
        value: that of this rank, in plain values and tensors.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    found: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def of_this_rank(values: Sequence[T]) -> T | None:
    """Return this rank's value of those of `of_every_rank`; None where they are of another number
    of ranks."""
    n, rank = 1, 0
    if dist.is_available() and dist.is_initialized():
        n, rank = dist.get_world_size(), dist.get_rank()
    return values[rank] if len(values) == n else None


def end_with_any(
    children: Sequence[subprocess.Popen[bytes]], said: Callable[[], str]
) -> threading.Thread:
    """End this process with a line and status 1 within some seconds after a child of it was lost,
    the other children with it. Without, it would wait for the lost one.

    Args:
        children: the processes.
        said: returns what is to be said after the child's status.

    Returns:
        The thread that looks after them.
    """

    def look() -> None:
        seen = 0.0  # since when one has ended with a status of its own, as where all meet an error
        while True:
            time.sleep(0.5)
            statuses = [child.poll() for child in children]
            if all(status == 0 for status in statuses):
                return
            seen += 0.5 if any(statuses) else 0.0
            for rank, status in enumerate(statuses, 1):
                if status and (status < 0 or seen > GRACE):
                    how = signal.Signals(-status).name if status < 0 else f"status {status}"
                    line = f"error: the process of rank {rank} has ended ({how}); {said()}"
                    print(line, file=sys.stderr, flush=True)
                    for child in children:
                        child.kill()
                    os._exit(1)

    for other in threading.enumerate():  # Lightning's, which kills this process without a line
        if other.name == "child-process-observer" and hasattr(other, "_child_processes"):
            other._child_processes = []
    thread = threading.Thread(target=look, daemon=True, name="ranks")
    thread.start()
    return thread
