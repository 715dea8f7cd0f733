"""Search the options of a row, by successive halving on the validation part alone.

    python -m benchmarks.search TASK ROW --minutes M [--data PATH]

What is searched stands under ``search`` of the task in ``experiments.yaml``: rungs, which are
numbers of epochs, and for each row a list of axes, each a list of options to choose from. The first
rung trains the first ones, then random choices; each further one trains the best third of the rung
before it, best first (Jamieson and Talwalkar 2016). Every rung gets an equal share of the minutes,
and starts no trial when they are spent. Every trial is stored as it ends, below
``benchmarks/results/search/``: a search that was interrupted goes on where it was, and one that
gets more minutes becomes wider.

Conventions:
    Minutes are of the processor, as spent by training and validation; seed 0; ``val/nll`` in nats
    per frame, the best epoch's. A trial that fails has none, and is last.
"""

import argparse
import json
import math
import os
import random
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.provenance import clean_commit
from benchmarks.rows import STORE, experiments, fit_arguments, latest, of_best_epoch, slug
from benchmarks.stored import Refused, place_of
from rnade_lightning.__main__ import main as rnade_lightning
from rnade_lightning.run_files import write_text

FOUND = STORE / "search"
KEPT = 3
"""Of so many trials of a rung, one is trained in the next."""
Axes = list[list[str]]


class Trial(NamedTuple):
    """Options that were trained for some epochs."""

    options: str
    epochs: int
    val_nll: float | None
    seconds: float
    commit: str


def draws(axes: Axes, seed: int = 0) -> Iterator[str]:
    """Yield choices of one entry of every axis, as options: the first ones, then random ones, each
    once, until all have been."""
    generator, n = random.Random(seed), 1
    for axis in axes:
        n *= len(axis)
    chosen, seen = [axis[0] for axis in axes], set[str]()
    while len(seen) < n:
        options = " ".join(filter(None, chosen))
        if options not in seen:
            seen.add(options)
            yield options
        chosen = [generator.choice(axis) for axis in axes]


def ranked(trials: list[Trial], epochs: int) -> list[Trial]:
    """Return the trials of a rung, best first."""
    of_rung = [trial for trial in trials if trial.epochs == epochs]
    return sorted(of_rung, key=lambda t: float("inf") if t.val_nll is None else t.val_nll)


def next_trial(
    trials: list[Trial], axes: Axes, rungs: list[int], minutes: float
) -> tuple[str, int] | None:
    """Return the options and the epochs of the next trial; None where the search is over."""
    for i, epochs in enumerate(rungs):
        done = ranked(trials, epochs)
        if sum(trial.seconds for trial in done) >= 60 * minutes / len(rungs):
            continue
        candidates: Iterator[str] = draws(axes)
        if i:
            before = ranked(trials, rungs[i - 1])
            candidates = (trial.options for trial in before[: -(-len(before) // KEPT)])
        for options in candidates:
            if all(options != trial.options for trial in done):
                return options, epochs
    return None


def search(
    path: Path,
    axes: Axes,
    rungs: list[int],
    minutes: float,
    train: Callable[[str, int], float | None],
    commit: str,
) -> list[Trial]:
    """Go on with the search whose trials are in a file, until its minutes are spent.

    Args:
        path: the file, which is made if there is none.
        axes: options to choose from.
        rungs: numbers of epochs, rising.
        minutes: of the processor, in all.
        train: returns the validation nll of options after some epochs; None if they fail.
        commit: under which trials are trained now.

    Returns:
        All trials.
    """
    trials = stored(path)
    while (chosen := next_trial(trials, axes, rungs, minutes)) is not None:
        started = time.process_time()
        nll = train(*chosen)
        trials.append(Trial(*chosen, nll, round(time.process_time() - started, 1), commit))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "\n".join(json.dumps(trial._asdict()) for trial in trials) + "\n")
        print(f"{trials[-1].val_nll} after {trials[-1].epochs} epochs: {chosen[0]}", flush=True)
    return trials


def stored(path: Path) -> list[Trial]:
    """Return the trials in a file, none if there is no file.

    Raises:
        Refused: a line is no whole trial; none is dropped, since its minutes were spent.
    """
    trials = list[Trial]()
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for i, line in enumerate(lines, 1):
        try:
            trials.append(Trial(**json.loads(line)))
        except (TypeError, ValueError):
            raise Refused(
                f"{place_of(path)}: line {i} of {len(lines)} is no whole trial; put the file back "
                "from git, or delete the line: python -m benchmarks.search trains it again"
            ) from None
    return trials


def of_row(task: str, row: str) -> list[Trial]:
    """Return the stored trials of a row."""
    return stored(FOUND / task / f"{slug(row)}.jsonl")


def trainer(task: str, row: str, data: str | None) -> Callable[[str, int], float | None]:
    """Return what trains a row of a task with further options."""
    spec: dict[str, Any] = experiments()[task]

    def train(options: str, epochs: int) -> float | None:
        folder = Path("runs", "search", task, slug(row))
        arguments = fit_arguments(spec, spec["models"][row] or {}, data, folder)
        more = [*shlex.split(options), f"--trainer.max_epochs={epochs}", "--seed_everything=0"]
        try:
            rnade_lightning(["fit", *arguments, *more, "--test_after_fit=false"])
        except SystemExit as end:
            if end.code != 1:  # stopped by a signal
                raise
            return None  # told in a line: the options do not work
        return of_best_epoch(latest(folder))["nll"]

    return train


def minutes_of(text: str) -> float:
    """Return the minutes in an argument, a finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of minutes above 0, such as 10")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=[t for t, of in experiments().items() if "search" in of])
    parser.add_argument("row", help="a model of the task that has a search")
    parser.add_argument(
        "--minutes", type=minutes_of, required=True, help="of the processor, in all"
    )
    parser.add_argument("--data", help="where the task's data are, if they are not simulated")
    args = parser.parse_args()
    os.environ.setdefault("WANDB_MODE", "offline")
    of_task = experiments()[args.task]["search"]
    if args.row not in of_task["rows"]:
        parser.error(f"{args.row!r} is none of: {'; '.join(of_task['rows'])}")
    path = FOUND / args.task / f"{slug(args.row)}.jsonl"
    train = trainer(args.task, args.row, args.data)
    axes, rungs = of_task["rows"][args.row], of_task["epochs"]
    try:
        trials = search(path, axes, rungs, args.minutes, train, clean_commit())
    except Refused as error:
        sys.exit(f"error: {error}")
    best = ranked(trials, max(trial.epochs for trial in trials))[0]
    print(f"best: {best.val_nll} after {best.epochs} epochs: {best.options}")


if __name__ == "__main__":
    main()
