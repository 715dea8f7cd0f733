"""Run folders: which one a run writes into, and where it goes on.

Conventions:
    A run folder is ``<folder of all runs>/<name>/version_<n>``. Its ``checkpoints`` hold
    ``last.ckpt`` and ``best.ckpt``, ``config.yaml`` the options. ``job.json`` names the SLURM job
    and the command that the run belongs to: a job that SLURM starts again finds its run by it.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from errno import EACCES, EAGAIN
from pathlib import Path
from typing import IO

JOB = "job.json"
LOCK = ".lock"
RESUMED_BY = "--ckpt_path"


def claim(runs: Path) -> Path:
    """Return a new folder ``version_<n>``, made so that no other process has it too.

    Args:
        runs: folder of the runs of one name; made if it is not there.
    """
    runs.mkdir(parents=True, exist_ok=True)
    taken = [path.name.removeprefix("version_") for path in runs.glob("version_*")]
    n = max((int(number) + 1 for number in taken if number.isdecimal()), default=0)
    while True:
        try:
            (runs / f"version_{n}").mkdir()
        except FileExistsError:
            n += 1
        else:
            return runs / f"version_{n}"


def hold(folder: Path) -> IO[bytes] | None:
    """Keep other processes from training in a run folder, as long as the file that is returned is
    open; None where the file system has no locks. A process that dies lets go.

    Raises:
        ValueError: another one trains in it.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, lockf
    except ModuleNotFoundError:  # Windows
        return None
    file: IO[bytes] | None = None
    try:
        file = open(folder / LOCK, "wb")  # noqa: SIM115  (open as long as the run)
        lockf(file, LOCK_EX | LOCK_NB)
    except OSError as error:
        if file is not None and error.errno in (EACCES, EAGAIN):
            raise ValueError(
                f"{folder}: another process trains in it; wait until it ends, or start a run of its"
                " own without --ckpt_path"
            ) from None
    return file


def folder_of(checkpoint: str) -> Path | None:
    """Return the run folder that a checkpoint lies in; None where it lies elsewhere."""
    path = Path(checkpoint)
    folder = path.absolute().parent.parent if path.parent.name == "checkpoints" else None
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    try:
        return folder.relative_to(Path.cwd())
    except ValueError:
        return folder


def good_beside(checkpoint: str) -> Path | None:
    """Return the newest other file of the same folder that may be a good checkpoint, which ``fit``
    goes on from; None where there is none."""
    path = Path(checkpoint)
    others = [p for p in path.parent.glob("[!.]*.ckpt") if p.name != path.name]
    return max(others, key=lambda path: path.stat().st_mtime, default=None)


def slurm_job() -> str | None:
    """Return the id of the SLURM job that this process is part of, None where it is of none or
    somebody types commands in it."""
    if "SLURM_NTASKS" not in os.environ:
        return None
    if os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if array := os.environ.get("SLURM_ARRAY_JOB_ID"):
        return f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID', '')}"
    return os.environ.get("SLURM_JOB_ID")


def note_job(folder: Path, command: Sequence[str]) -> None:
    """Write down the SLURM job and the command that a run belongs to, if it is of a job."""
    if job := slurm_job():
        (folder / JOB).write_text(json.dumps({"job": job, "command": list(command)}) + "\n")


def of_requeued_job(runs: Path, command: Sequence[str]) -> Path | None:
    """Return the newest run of this SLURM job and command, if SLURM has started the job again.

    Args:
        runs: folder of the runs of one name.
        command: the command and its options, as typed.
    """
    job = slurm_job()
    if job is None or not int(os.environ.get("SLURM_RESTART_COUNT") or 0):
        return None
    for note in sorted(runs.glob(f"*/{JOB}"), key=lambda path: -path.stat().st_mtime):
        try:
            if json.loads(note.read_text()) == {"job": job, "command": list(command)}:
                return note.parent
        except (OSError, ValueError):  # it was being written
            continue
    return None


def command_to_go_on(program: str, command: Sequence[str], checkpoint: Path) -> str:
    """Return the command that goes on with a run, to be typed into a shell.

    >>> command_to_go_on("rnade", ["fit", "--ckpt_path=a", "--model.n_hidden=3"], Path("b.ckpt"))
    'rnade fit --model.n_hidden=3 --ckpt_path b.ckpt'
    """
    kept, skip = [], False
    for word in command:
        if not skip and not word.startswith(f"{RESUMED_BY}="):
            skip = word == RESUMED_BY
            kept += [] if skip else [word]
        else:
            skip = False
    return f"{program} {shlex.join([*kept, RESUMED_BY, str(checkpoint)])}"
