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


def end_with_any(children: Sequence[subprocess.Popen[bytes]], said: Callable[[], str]) -> None:
    """End this process with a line and status 1 within some seconds after a child of it was lost,
    the other children with it. Without, it would wait for the lost one.

    Args:
        children: the processes.
        said: returns what is to be said after the child's status.
    """

    def look() -> None:
        while True:
            time.sleep(0.5)
            statuses = [child.poll() for child in children]
            if all(status == 0 for status in statuses):
                return
            for rank, status in enumerate(statuses, 1):
                if status:
                    how = signal.Signals(-status).name if status < 0 else f"status {status}"
                    line = f"error: the process of rank {rank} has ended ({how}); {said()}"
                    print(line, file=sys.stderr, flush=True)
                    for child in children:
                        child.kill()
                    os._exit(1)

    threading.Thread(target=look, daemon=True, name="ranks").start()
