"""Read the stored metrics of runs, and refuse those that would put a wrong number on a page.

Conventions:
    As in `rows`. A figure that is null has no number; either all seeds of a row have it or none.
    Infinity is a number (errors of samples that diverge), NaN is none. A file that is refused is
    told in a line, with the command that writes it again.
"""

import json
import math
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import rows
from benchmarks.pairs import model_of
from benchmarks.rows import Metrics, slug

CLOSE = 2e-3
"""By so much may a mean differ from that of its blocks, in nats or bits."""
OF_ALL = ("commands", "seconds", "parameters", "updates", "val_nll", "frames", "features", "code")
OF_TESTED = ("test", "baselines", "free")
OBJECTS = ("test", "baselines", "free", "density", "figures", "blocks", "val_blocks")
SHOWN = (*OBJECTS[:5], *("val_nll", "seconds", "parameters", "updates", "features", "peak_mib"))
"""What a page takes means of over seeds, or shows of the first."""


class Refused(ValueError):
    """A stored file that cannot be used; the text is one line."""


def stored(task: str, name: str) -> list[Metrics]:
    """Return the metrics of all seeds of a row, none if it was not run.

    Raises:
        Refused: a file is damaged, is not of its place, contradicts itself, or does not fit those
            of the other seeds.
    """
    paths = _paths(task, name)
    runs = [_read(path, name) for path in paths]
    places = [_places(run) for run in runs]
    every = set().union(*places)
    for path, run, own in zip(paths, runs, places, strict=True):
        if lacking := sorted(every - own):
            what = f"{lacking[0]} is missing or null, which other seeds of the row have"
            raise refused(path, name, what)
        for key in ("features", "frames"):
            if run[key] != runs[0][key]:
                what = f"{key} {run[key]} differ from those of seed {runs[0]['seed']}, "
                raise refused(path, name, what + f"{runs[0][key]}")
    for key in ("blocks", "val_blocks"):
        check_frames(task, {f"seed {run['seed']}": [run] for run in runs}, key)
    return runs


def check_frames(task: str, found: dict[str, list[Metrics]], key: str = "blocks") -> None:
    """Refuse runs whose blocks are of other frames than those of the first one.

    Args:
        task: whose runs they are.
        found: runs by what they are called; the first of each is looked at.
        key: ``blocks`` of the test part or ``val_blocks``.
    """
    known = [(called, runs[0]) for called, runs in found.items() if runs and key in runs[0]]
    for _, run in known[1:]:
        called, first = known[0]
        if run[key]["frames"] != first[key]["frames"]:
            path = rows.STORE / task / f"{slug(run['name'])}-{run['seed']}.json"
            what = f"the frames of {key} are not those of {called}, in the same order"
            raise refused(path, run["name"], what)


def refused(path: Path, name: str, what: str) -> Refused:
    """Return an error that says what is wrong in the file of a row, and how to write it again."""
    seed = path.stem.rpartition("-")[2]
    again = ["python", "-m", "benchmarks.results", "run", path.parent.name, name, "--seeds", seed]
    return Refused(f"{place_of(path)}: {what}; run it again with {shlex.join(again)}")


def place_of(path: Path) -> Path:
    """Return the path of a stored file, from the top of the checkout if it is there."""
    top = Path(__file__).parents[1]
    return path.relative_to(top) if path.is_relative_to(top) else path


def _paths(task: str, name: str) -> list[Path]:
    """Return the files of a row, in the order of their seeds."""
    of_row = re.compile(rf"{re.escape(slug(name))}-(0|[1-9]\d*)\.json")
    paths = [path for path in (rows.STORE / task).glob("*") if of_row.fullmatch(path.name)]
    return sorted(paths, key=lambda path: int(path.stem.rpartition("-")[2]))


def _read(path: Path, name: str) -> Metrics:
    """Return the metrics in a file, which agree with its place and with themselves."""
    try:
        run = json.loads(path.read_text())
    except ValueError as error:
        raise refused(path, name, f"this is no whole JSON ({error})") from None
    try:
        _check_place(run, path, name)
        _check_figures(run)
        _check_means(run)
    except ValueError as error:
        raise refused(path, name, str(error)) from None
    return run


def _check_place(run: Any, path: Path, name: str) -> None:
    if not isinstance(run, dict):
        raise ValueError("this is no object with the metrics of a run")
    seed = int(path.stem.rpartition("-")[2])
    for key, wanted in {"task": path.parent.name, "name": name, "seed": seed}.items():
        if run.get(key) != wanted:
            raise ValueError(f"{key} {run.get(key)!r} is not that of its place, {wanted!r}")
    tested = "test" in run or name in rows.experiments()[path.parent.name]["models"]
    for key in OF_ALL + OF_TESTED * tested:
        if key not in run:
            raise ValueError(f"{key} is missing")
    for key in OBJECTS:
        inside = run.get(key, {})
        if not isinstance(inside, dict):
            raise ValueError(f"{key} is no object")
        if key == "baselines" and not all(isinstance(of, dict) for of in inside.values()):
            raise ValueError("a row of baselines is no object")
    if not isinstance(run["features"], int) or run["features"] < 1:
        raise ValueError(f"features is {_shown(run['features'])}, which is no number of them")


def _check_figures(run: Metrics) -> None:
    """Refuse what is no number where one has to be, and blocks that are not of their frames."""
    for key in (*SHOWN, "curve"):
        list(_numbers(run.get(key), key))
    for key, needed in {"blocks": ["frames"], "val_blocks": ["frames", "log_p"]}.items():
        if key in run:
            _check_blocks(key, run[key], needed)


def _check_blocks(key: str, of: dict[str, Any], needed: list[str]) -> None:
    n = len(of.get("frames") or [])
    for name in dict.fromkeys([*needed, *of]):
        known = [value for _, value in _numbers(of.get(name), f"{key}.{name}")]
        if not isinstance(of.get(name), list) or not len(known) == len(of[name]) == n:
            raise ValueError(f"{key}.{name} does not hold a number for each block")
        if not all(math.isfinite(value) for value in known):
            raise ValueError(f"{key}.{name} holds an infinite number")
        if name == "frames" and min(known, default=1) <= 0:
            raise ValueError(f"{key}.frames holds a block without frames")


def _check_means(run: Metrics) -> None:
    """Refuse figures that contradict the blocks beside them."""
    if "blocks" in run:
        blocks, test = run["blocks"], {model_of(run): ("test", run["test"])}
        beside = {name: (f"baselines.{name}", of) for name, of in run["baselines"].items()}
        of_rows = {name: of for name, of in (beside | test).items() if name in blocks}
        for name, (place, of) in of_rows.items():
            some = of.get("log_prob_of_others") is not None  # then blocks are of these frames alone
            key = "log_prob_of_others" if some else "log_prob"
            _check_mean(f"{place}.{key}", of.get(key), blocks[name], blocks["frames"])
        _check_bits(run, dict(of_rows.values()))
    of, nll = run.get("val_blocks", {}), run["val_nll"]
    if of.get("frames") and len(nll) == 1:  # of an ensemble they are of its members
        negative = [-value for value in of["log_p"]]
        _check_mean("val_nll", nll[0], negative, of["frames"])


def _check_mean(place: str, told: float | None, sums: list[float], frames: list[float]) -> None:
    mean = sum(sums) / sum(frames) if frames else math.nan
    if told is None or not abs(told - mean) <= CLOSE:
        raise ValueError(f"{place} is {_shown(told)}, but the mean of its blocks is {mean:.4f}")


def _check_bits(run: Metrics, of_rows: dict[str, dict[str, float | None]]) -> None:
    """Refuse bits per sample that are not those of log p, but for what all rows of a file share."""
    shared: dict[str, float] = {}
    for place, of in of_rows.items():
        bits, log_prob = of.get("bits_per_sample"), of.get("log_prob")
        if bits is not None and log_prob is not None:
            shared[place] = bits + log_prob / (run["features"] * math.log(2))
    if shared and max(shared.values()) - min(shared.values()) > CLOSE:
        middle = sorted(shared.values())[len(shared) // 2]
        place = max(shared, key=lambda at: abs(shared[at] - middle))
        by = shared[place] - middle
        raise ValueError(f"{place}.bits_per_sample differs from what its log_prob says by {by:.4f}")


def _places(run: Metrics) -> set[str]:
    """Return the places at which a run has something that a page takes a mean of."""
    shown = {place for key in SHOWN for place, _ in _numbers(run.get(key), key)}
    return {*run, *shown, *(f"blocks.{key}" for key in run.get("blocks", {}))}


def _numbers(of: Any, place: str) -> Iterator[tuple[str, float]]:
    """Yield the numbers at a place and below it, but for those that are null, each with its own."""
    if isinstance(of, dict | list):
        below = of.items() if isinstance(of, dict) else enumerate(of)
        for key, value in below:
            yield from _numbers(value, f"{place}.{key}")
    elif of is not None:
        if not isinstance(of, int | float) or math.isnan(of):
            raise ValueError(f"{place} is {_shown(of)}, which is no number")
        yield place, of


def _shown(value: Any) -> str:
    return json.dumps(value)[:40]
