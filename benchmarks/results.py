"""Run every experiment of ``experiments.yaml``, and make RESULTS.md from the stored metrics.

    python -m benchmarks.results                           RESULTS.md from the stored metrics
    python -m benchmarks.results run TASK [NAME ..] --data PATH [--seeds 0 1 2]

``run`` trains, tests and measures from nothing; NAME is a model or an ablation of the task, all of
them if none is given. What it stores is small: one JSON for a run, in ``benchmarks/results/``. Run
folders stay below ``runs/results/``.

Conventions:
    log p in nats per frame (bits per sample for integer sound), squared errors summed over
    features, both means over the scored test frames. An ablation is measured on the validation part
    only. Seconds are wall time, on a machine that may have done other things meanwhile.
"""

import argparse
import csv
import json
import math
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

from benchmarks import control, waypoints
from rnade_lightning.callbacks.comparison_rows import PROCESS
from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.contexts import of_sequences
from rnade_lightning.datamodules.sound.spectra import Mel
from rnade_lightning.scoring import ahead, error_of_blocks

HERE = Path(__file__).parent
STORE, TRIED = HERE / "results", HERE / "results" / "tried"
Metrics = dict[str, Any]


def experiments() -> dict[str, Any]:
    """Return the tasks by name; see ``experiments.yaml``."""
    return yaml.safe_load((HERE / "experiments.yaml").read_text())


def slug(name: str) -> str:
    """Return a name as part of a file's name.

    >>> slug("RNN-GMM, K = 10")
    'rnn-gmm-k-10'
    """
    return "-".join("".join(c if c.isalnum() else " " for c in name.lower()).split())


# ------------------------------------------------------------------ running


def run(task: str, name: str, data: str | None, seed: int) -> Metrics:
    """Run a model or an ablation of a task from nothing, and store its metrics."""
    spec = experiments()[task]
    test = name in spec["models"]
    of = spec["models" if test else "ablations"][name] or {}
    folder = Path("runs", "results", task, slug(name), f"seed{seed}")
    members = [folder / f"member{i}" for i in range(of.get("members", 1))]
    commands, started = [], time.time()

    def execute(*arguments: str) -> None:
        commands.append(shlex.join(["python", "-m", "rnade_lightning", *arguments]))
        rnade_lightning(*arguments)

    shared = [f"--config={path}" for path in _as_list(of.get("config", spec["config"]))]
    shared += [] if data is None else [f"--data.root={data}"]
    shared += [o for o in _options(of) if not o.startswith("--model")]
    model = [o for o in _options(of) if o.startswith("--model")]
    alone = len(members) == 1
    for i, member in enumerate(members):
        own = seed if alone else 10 * (seed + 1) + i  # and of its order of the features
        more = [f"--seed_everything={own}", f"--test_after_fit={test and alone}".lower()]
        more += [] if alone else [f"--model.feature_order={own}"]
        execute("fit", *shared, *model, *more, *_into(member))
    best = [str(_latest(member) / "checkpoints" / "best.ckpt") for member in members]
    tested, ckpt = _latest(members[0]), best[0]
    if not alone:
        ckpt = str(folder / "ensemble.ckpt")
        execute("combine", f"--ckpt_paths=[{','.join(best)}]", f"--out={ckpt}")
        execute("test", *shared, f"--ckpt_path={ckpt}", *_into(folder / "ensemble"))
        tested = _latest(folder / "ensemble")
    metrics: Metrics = {"task": task, "name": name, "seed": seed, "commands": commands}
    metrics |= {"seconds": round(time.time() - started)} | _training([_latest(m) for m in members])
    if test:
        metrics |= _tested(tested) | {"free": free_running(ckpt)}
    path = STORE / task / f"{slug(name)}-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metrics, indent=1)
    if data:  # where the data are here is nobody's business
        text = text.replace(data, f"PATH/{Path(data).name}")
    path.write_text(text + "\n")
    return metrics


def rnade_lightning(*arguments: str) -> None:
    """Run the command line in a process of its own."""
    subprocess.run([sys.executable, "-m", "rnade_lightning", *arguments], check=True)


def _options(of: Any) -> list[str]:
    return shlex.split(of.get("options", ""))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _into(folder: Path) -> list[str]:
    logger = (
        f"CSVLogger --trainer.logger.save_dir={folder.parent} --trainer.logger.name={folder.name}"
    )
    return [*f"--trainer.logger={logger}".split(), "--trainer.enable_progress_bar=false"]


def _latest(folder: Path) -> Path:
    return max(folder.glob("version_*"), key=lambda p: int(p.name.split("_")[1]))


def _training(runs: list[Path]) -> Metrics:
    """Return figures of the training in the run folders of a model, or of an ensemble's members."""
    checkpoints = [load_checkpoint(str(path / "checkpoints" / "best.ckpt")) for path in runs]
    card = json.loads((runs[0] / "run.json").read_text())
    best = [_best(path) for path in runs]
    return {
        "parameters": sum(t.numel() for c in checkpoints for t in c["state_dict"].values()),
        "updates": sum(b["updates"] for b in best),
        "best_epochs": [b["epoch"] for b in best],
        "val_nll": [b["nll"] for b in best],
        "frames": card["data"]["frames"],
        "features": card["data"]["n_features"],
        "code": card["code"]["commit"],
        "environment": card["environment"],
    }


def _tested(path: Path) -> Metrics:
    """Return the table that ``test`` left: the model's row and those of the baselines."""
    with open(path / "comparison.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    numbers = [{k: float(v) if v else None for k, v in row.items() if k != "name"} for row in rows]
    named = zip((row["name"] for row in rows[1:]), numbers[1:], strict=True)
    with open(path / "comparison_blocks.csv", newline="") as file:
        head, *blocks = csv.reader(file)
    by_row = list(
        zip(*([round(float(cell), 4) for cell in block] for block in blocks), strict=True)
    )
    of_rows = dict(zip(head, by_row, strict=True))
    found = {"test": numbers[0], "baselines": dict(named), "blocks": of_rows}
    return found | _figures(path / "samples/figures.csv")


def _figures(path: Path) -> Metrics:
    """Return the figures of long samples, by set; nothing for kinds of data without them."""
    if not path.is_file():
        return {}
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    sets = [name for name in rows[0] if name != "figure"]
    of = {s: {r["figure"]: float(r[s]) if r[s] else None for r in rows} for s in sets}
    return {"figures": of}


def _best(path: Path) -> Metrics:
    """Return the numbers of the epoch that validation chose (the last one without validation)."""
    with open(path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    updates = max(int(row["step"]) for row in rows) + 1
    validated = [row for row in rows if row.get("val/nll")]
    if not validated:
        last = max(int(row["epoch"]) for row in rows if row["epoch"])
        return {"epoch": last, "updates": updates, "nll": None}
    best = min(validated, key=lambda row: float(row["val/nll"]))
    return {"epoch": int(best["epoch"]), "updates": updates, "nll": float(best["val/nll"])}


# ------------------------------------------------------------------ free-running samples


def free_running(ckpt: str, n_samples: int = 8, seconds: float = 30.0) -> Metrics:
    """Return how long samples from nothing stay with the data.

    A second of a sample has left the data if more than a tenth of its values lie outside the range
    that the training part has of their feature (for motion as rotations: joint limits), or if its
    speed (RMS change from frame to frame) is outside 1.5 times what 99 % of the seconds of the
    training part have, at either end. Sound is given a distance as well: RMS difference, in dB, of
    the mean log mel spectra of samples and of test sound.

    Returns:
        ``seconds`` until a sample leaves, the median, at most those asked for, and ``survive``, the
        share of samples that do not.
    """
    checkpoint = load_checkpoint(ckpt)
    data, model = load_data(checkpoint), load_model(checkpoint)
    rate = data.frame_rate
    known = [x.frames[:50_000] for x in islice(data.sequences("train"), 200)]
    n = max(round(rate), 2)
    low, high = _range(known)
    speeds = np.concatenate([_speeds(x, n) for x in known if len(x) > n])
    slow, fast = np.quantile(speeds, [0.005, 0.995]) * [1 / 1.5, 1.5]
    n_frames = round(seconds * rate)
    generator = torch.Generator().manual_seed(0)
    if data.given is None:
        drawn = model.sample(n_frames, n_samples, generator=generator)[0]
    else:  # as held-out sequences were given
        turns = list(islice(cycle(data.sequences("test")), n_samples))
        context = of_sequences(turns, n_frames, model.initial_state(1))
        drawn = model.sample(n_frames, context=context, generator=generator)[:, 0]
    lengths = []
    for sample in drawn:
        good = 0
        for second in sample[: n_frames - n_frames % n].split(n):
            outside = ((second < low) | (second > high)).double().mean()
            speed = _speeds(second, n)[0]
            if not (torch.isfinite(second).all() and outside <= 0.1 and slow <= speed <= fast):
                break
            good += 1
        lengths.append(min(good * n / rate, seconds))
    found = {
        "seconds": statistics.median(lengths),
        "survive": sum(length >= seconds - n / rate for length in lengths) / n_samples,
        "asked": seconds,
    }
    if "sample_rate" in data.layout:  # it is written as sound
        found["spectral_distance_db"] = _spectral_distance(data, drawn)
    return found


def _range(sequences: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    low = torch.stack([x.amin(0) for x in sequences]).amin(0)
    return low, torch.stack([x.amax(0) for x in sequences]).amax(0)


def _speeds(frames: torch.Tensor, n: int) -> np.ndarray:
    """Return RMS change from frame to frame in every run of n frames."""
    steps = frames.diff(dim=0).square().mean(-1)
    runs = [run.mean().sqrt().item() for run in steps.split(n) if len(run) >= n - 1]
    return np.array(runs)


def _spectral_distance(data: Any, drawn: torch.Tensor) -> float:
    import soundfile

    def spectrum(sounds: Iterator[np.ndarray], rate: int) -> np.ndarray:
        mel = Mel(rate, 1024, 1024, 256, 40, 0.0, rate / 2)
        return np.concatenate([mel.log_mel(sound) for sound in sounds]).mean(0)

    with tempfile.TemporaryDirectory() as folder:

        def played(sequences: Any) -> Iterator[np.ndarray]:
            for i, frames in enumerate(sequences):
                for path in data.render(frames, Path(folder, str(i))):
                    if path.suffix == ".wav":
                        yield soundfile.read(path)[0]

        rate = data.layout["sample_rate"]
        test = (x.frames for x in islice(data.sequences("test"), 20))
        difference = spectrum(played(drawn), rate) - spectrum(played(test), rate)
    return float(10 / np.log(10) * np.sqrt(np.mean(difference**2)))


# ------------------------------------------------------------------ RESULTS.md


def stored(task: str, name: str) -> list[Metrics]:
    """Return the metrics of all seeds of a run."""
    return [json.loads(p.read_text()) for p in sorted((STORE / task).glob(f"{slug(name)}-?.json"))]


def spread(values: list[float | None], digits: int = 2) -> str:
    """Return the mean and, if there are several, the standard deviation.

    >>> spread([1.0, 2.0, 3.0]), spread([1.0])
    ('2.00 ± 1.00', '1.00')
    """
    known = [v for v in values if v is not None]
    if not known:
        return ""
    mean = f"{statistics.mean(known):.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {statistics.stdev(known):.{digits}f}"


class Blocks(NamedTuple):
    """Log p over blocks of test frames, the mean over seeds, and the frames of each, ``(M,)``."""

    sums: torch.Tensor
    frames: torch.Tensor

    @classmethod
    def of(cls, runs: list[Metrics], name: str | None = None) -> "Blocks | None":
        """Return those of the model of some runs, or of a row beside it; None without any."""
        found = [r["blocks"] for r in runs if "blocks" in r]
        if not found or (name and name not in found[0]):
            return None
        own = [list(b.values())[1] if name is None else b[name] for b in found]
        sums = torch.tensor(own, dtype=torch.float64).mean(0)
        return cls(sums, torch.tensor(found[0]["frames"], dtype=torch.float64))

    def above(self, other: "Blocks") -> tuple[float, float]:
        """Return by how much log p is above another's on the same frames, and the error of that.

        Raises:
            ValueError: the blocks are not of the same frames.
        """
        if not torch.equal(self.frames, other.frames):
            raise ValueError("two runs of a task were tested on other frames: run both again")
        sums = self.sums - other.sums
        return float(sums.sum() / self.frames.sum()), error_of_blocks(sums, self.frames)


def in_pairs(blocks: dict[str, Blocks | None]) -> tuple[dict[str, list[str]], str | None]:
    """Return, by row, the standard error of log p and how far it is above the first row's, with the
    error of that, and the row that is above every other by more than two errors, if one is."""
    known = {name: b for name, b in blocks.items() if b is not None}
    cells = {name: ["", ""] for name in blocks}
    ours = next(iter(known.values()), None)
    for name, b in known.items():
        error = error_of_blocks(b.sums, b.frames)
        cells[name][0] = "" if math.isnan(error) else f"{error:.2f}"
        if ours is not None and b is not ours:
            above, error = b.above(ours)
            cells[name][1] = f"{above:.2f}" + ("" if math.isnan(error) else f" ± {error:.2f}")
    models = {name: b for name, b in known.items() if name != PROCESS}  # which none can pass
    for name, b in models.items():
        if ahead(b.above(other) for other in models.values() if other is not b):
            return cells, name
    return cells, None


def table_of(task: str, spec: Any) -> list[str]:
    """Return the models of a task and their baselines, best first."""
    columns = [(key, heading, *(digits or [2])) for key, heading, *digits in spec["columns"]]
    first = columns[0][0]
    rows: list[tuple[float, list[str]]] = []
    baselines: dict[str, dict[str, float]] = {}
    found = {name: stored(task, name) for name in spec["models"]}
    sound = any("spectral_distance_db" in r["free"] for runs in found.values() for r in runs)

    def add(name: str, of: list[dict[str, float]], more: list[str]) -> None:
        cells = [spread([numbers.get(key) for numbers in of], n) for key, _, n in columns]
        known = [numbers[first] for numbers in of if numbers.get(first) is not None]
        more = [*pairs[name], *more] if paired else more
        shown = f"**{name}**" if name == leader else name
        rows.append((statistics.mean(known) if known else -math.inf, [shown, *cells, *more]))

    blocks = {name: Blocks.of(runs) for name, runs in found.items() if runs}
    for runs in found.values():
        blocks |= {name: Blocks.of(runs, name) for r in runs[:1] for name in r["baselines"]}
    pairs, leader = in_pairs(blocks)
    paired = any(any(cells) for cells in pairs.values())
    for name, runs in found.items():
        if not runs:
            continue
        free = [spread([r["free"]["seconds"] for r in runs], 0)]
        if sound:
            free.append(spread([r["free"].get("spectral_distance_db") for r in runs], 1))
        cost = [f"{runs[0]['parameters']:,}", f"{runs[0]['updates']:,}"]
        cost += [spread([r["seconds"] / 60 for r in runs], 1), str(len(runs))]
        add(name, [r["test"] for r in runs], [*free, *cost])
        baselines |= runs[0]["baselines"]
    free_heads = ["free, s", *["spectrum, dB"] * sound]
    for name, numbers in baselines.items():
        add(name, [numbers], [""] * (len(free_heads) + 4))
    rows.sort(key=lambda row: row[0], reverse=spec.get("higher", True))
    head = ["", *(heading for _, heading, _ in columns)]
    head += ["error", f"above {next(iter(spec['models']))}"] * paired + free_heads
    return _markdown([*head, "parameters", "updates", "minutes", "seeds"], [r for _, r in rows])


def figures_of(task: str, spec: Any) -> list[str]:
    """Return the figures of long samples of the models of a task, beside held-out data."""
    lines = []
    for name in spec["models"]:
        found = [r for r in stored(task, name) if "figures" in r]
        if not found:
            continue
        sound = "spectral_distance_db" in found[0].get("free", {})
        length, page = ("10 s", "audio") if sound else ("a minute", "motion")
        runs = [r["figures"] for r in found]
        rows = [
            [figure, *(spread([r[s][figure] for r in runs], 3) for s in runs[0])]
            for figure in next(iter(runs[0].values()))
        ]
        link = f"[what they are](docs/{page}.md#figures-of-samples)"
        lines += ["", f"Samples of {length} by {name} ({link}):", ""]
        lines += _markdown(["", *runs[0]], rows)
    return lines


def ablations_of(task: str, spec: Any) -> list[str]:
    """Return the validation likelihood of the best model with one thing changed."""
    rows = []
    for name, of in (spec.get("ablations") or {}).items():
        for r in stored(task, name):
            options = f"`{of['options']}`" if of else "as shipped"
            rows.append([name, options, f"{-r['val_nll'][0]:.2f}"])
    if not rows:
        return []
    return ["", "One thing changed, seed 0, log p of the **validation** part:", "",
            *_markdown(["", "options", "log p"], rows)]  # fmt: skip


def tried_of(task: str) -> list[str]:
    """Return every configuration tried while options were chosen, on the validation part."""
    rows = []
    for path in sorted(TRIED.glob("*.csv")):
        with open(path, newline="") as file:
            rows += [row for row in csv.DictReader(file) if row["task"] == task]
    if not rows:
        return []
    keys = ("model", "options", "updates", "seconds", "val_nll", "note")
    lines = _markdown(list(keys), [[row[k].replace("|", "/") for k in keys] for row in rows])
    summary = f"{len(rows)} configurations tried, validation part only"
    return ["", "<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"]


def _markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    align = ["---"] + ["---:"] * (len(head) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in (head, align, *rows)]


def write_results() -> str:
    """Return the text of RESULTS.md."""
    lines = [*(HERE / "results.md.in").read_text().splitlines()]
    for task, spec in experiments().items():
        lines += ["", f"## {spec['title']}", "", *spec["about"].strip().splitlines(), ""]
        lines += [*table_of(task, spec), "", *spec.get("remarks", "").strip().splitlines()]
        lines += [*figures_of(task, spec), *ablations_of(task, spec), *tried_of(task)]
        firsts = [r for name in spec["models"] for r in stored(task, name)[:1]]
        commands = [command for run in firsts for command in run["commands"]]
        if commands:
            lines += ["", "<details>", "<summary>commands</summary>", "", "```", *commands, "```",
                      "", "</details>"]  # fmt: skip
    return "\n".join([*lines, *control.page(), *waypoints.page()]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command")
    rerun = commands.add_parser("run", help="run models or ablations of a task from nothing")
    rerun.add_argument("task", choices=list(experiments()))
    rerun.add_argument("names", nargs="*", help="models or ablations; all if none is given")
    rerun.add_argument("--data", help="where the task's data are, if they are not simulated")
    rerun.add_argument("--seeds", type=int, nargs="+", help="as in experiments.yaml if not given")
    args = parser.parse_args()
    if args.command == "run":
        os.environ.setdefault("WANDB_MODE", "offline")
        spec = experiments()[args.task]
        known = spec["models"] | (spec.get("ablations") or {})
        if unknown := set(args.names) - set(known):
            parser.error(f"{unknown.pop()!r} is none of: {'; '.join(known)}")
        for name in args.names or known:
            for seed in args.seeds or known[name].get("seeds", [0]):
                print(f"\n== {args.task}: {name}, seed {seed}", flush=True)
                run(args.task, name, args.data, seed)
    Path("RESULTS.md").write_text(write_results())
    print("RESULTS.md")


if __name__ == "__main__":
    main()
