"""Kills runs at every kind of point and goes on with them: ``python tests/kills.py``.

A point is ``<event>:<what>:<n>``: the n-th time that a hook of the callbacks is reached, by the
last of them (``hook``) or the first (``early``), that a file is opened to be written (``open``), or
that it takes its place (``rename``). The process is killed there as by ``kill -9``. What goes on
has to end as the run that was never killed: the same selected and final weights, bit for bit, the
same rows of metrics, the same table.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from toy import read_metrics, same_bits, weights, write_toy_data

POINTS = (
    "hook:setup:1",
    "hook:on_train_start:1",
    "open:last.ckpt:1",  # the first state
    "hook:on_train_batch_start:1",
    "hook:on_train_batch_end:3",  # inside the first epoch
    "open:last.ckpt:3",  # inside it, too
    "hook:on_validation_batch_start:2",
    "hook:on_train_epoch_end:1",
    "rename:best.ckpt:1",
    "rename:last.ckpt:4",
    "open:metrics.csv:2",
    "rename:metrics.csv:2",
    "early:on_train_epoch_start:2",
    "hook:on_train_epoch_start:3",
    "hook:on_train_batch_start:9",
    "open:best.ckpt:2",
    "hook:on_train_end:1",
    "hook:on_test_start:1",
    "rename:likelihood.png:1",  # the pictures
    "rename:comparison.csv:1",  # the table
    "open:index.html:1",
    "open:test_free.npy:1",
    "rename:comparison.md:1",
)
CHAIN = ("hook:on_train_batch_end:3", "open:last.ckpt:4", "hook:on_validation_end:2",
         "rename:comparison.csv:1")  # fmt: skip
"""Points of one run, one after another."""

DRIVER = """
import functools, os, signal, sys

event, what, left = os.environ.get("KILL_AT", "none:none:0").split(":")
left = int(left)

def seen(kind, path):
    global left
    name = os.path.basename(path)
    hit = kind == event and (what in name if kind == "open" else name == what)
    left -= hit
    if hit and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)

def audit(name, args):
    if name == "os.rename":
        seen("rename", os.fsdecode(args[1]))
    elif name == "open" and isinstance(args[0], str | bytes):
        if args[2] & (os.O_WRONLY | os.O_RDWR):
            seen("open", os.fsdecode(args[0]))

import pytorch_lightning as pl
from rnade_lightning.__main__ import main

class Counted(pl.Callback):
    pass

if event in ("hook", "early"):
    setattr(Counted, what, lambda self, *args, **kwargs: seen(event, what))
    before = pl.Trainer.__init__

    @functools.wraps(before)  # with its options
    def init(self, *args, **kwargs):
        at = 0 if event == "early" else len(kwargs["callbacks"])
        kwargs["callbacks"].insert(at, Counted())
        before(self, *args, **kwargs)

    pl.Trainer.__init__ = init
sys.addaudithook(audit)
main(sys.argv[1:])
"""


def start(folder: Path, point: str = "", *more: str) -> subprocess.CompletedProcess[str]:
    """Run ``fit`` in a folder, on the data beside it, up to a point."""
    places = f"{Path(__file__).parent}:{Path(__file__).parents[1]}"
    folder.mkdir(exist_ok=True)
    command = [
        "fit", "--data=toy.ToyDataModule", "--data.root=../data", "--data.window=16",
        "--data.batch_size=3", "--model=toy.NoisyModule", "--model.n_hidden=4",
        "--model.n_recurrent=5", "--trainer.max_epochs=3", "--trainer.accelerator=cpu",
        "--trainer.callbacks+=LastCheckpoint", "--trainer.callbacks.every_n_steps=2", *more,
    ]  # fmt: skip
    inherited = {k: v for k, v in os.environ.items() if k != "WANDB_SERVICE"}  # it has its own
    return subprocess.run(
        [sys.executable, "-c", DRIVER, *command], cwd=folder, capture_output=True, text=True,
        env=inherited | {"PYTHONPATH": places, **({"KILL_AT": point} if point else {})},
    )  # fmt: skip


def newest(folder: Path) -> Path:
    """The newest run folder."""
    return max(folder.glob("runs/toy/version_*"), key=lambda path: path.name)


def killed_and_gone_on_with(folder: Path, points: Iterable[str]) -> None:
    """Kill a run at points, one after another, and go on with it to its end.

    Raises:
        AssertionError: it did not reach a point, or does not end well.
    """
    more: tuple[str, ...] = ()
    for point in points:
        done = start(folder, point, *more)
        assert done.returncode == -signal.SIGKILL, f"{point} was not reached: {done.stderr}"
        last = newest(folder) / "checkpoints" / "last.ckpt" if (folder / "runs").exists() else None
        more = (f"--ckpt_path={last.relative_to(folder)}",) if last and last.exists() else ()
    done = start(folder, "", *more)
    assert done.returncode == 0, done.stderr


def difference(one: Path, other: Path) -> str:
    """Return what differs between two finished runs, nothing where they are the same."""
    for name in ("last.ckpt", "best.ckpt"):
        if not same_bits(*(weights(folder / "checkpoints" / name) for folder in (one, other))):
            return f"weights of {name}"
    if read_metrics(one) != read_metrics(other):
        return "metrics.csv"
    tables = [(folder / "comparison.csv").read_text() for folder in (one, other)]
    return "" if tables[0] == tables[1] else "comparison.csv"


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        write_toy_data(Path(place, "data"))
        start(Path(place, "never"))
        whole, bad = newest(Path(place, "never")), 0
        for i, points in enumerate([*((point,) for point in POINTS), CHAIN]):
            folder = Path(place, str(i))
            killed_and_gone_on_with(folder, points)
            found = difference(whole, newest(folder))
            bad += bool(found)
            print(f"{found or 'the same':20} {', '.join(points)}", flush=True)
    print(f"{len(POINTS) + len(CHAIN)} kills, {bad} of {len(POINTS) + 1} runs ended otherwise")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
