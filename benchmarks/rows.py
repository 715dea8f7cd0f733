"""Run a row of a task: train, test and measure a model from nothing, and store what came of it.

Conventions:
    A run is stored as one small JSON in ``benchmarks/results/``, one line a figure. log p in nats
    per frame (bits per sample for integer sound), squared errors summed over features, both means
    over the scored test frames. An ablation is measured on the validation part only. ``seconds``
    are wall time, on a machine that may have done other things meanwhile; those of ``curve``,
    ``(seconds, validation nll)`` of every epoch that was validated, are of the processor.
"""

import csv
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from benchmarks.provenance import check_unchanged
from rnade_lightning.callbacks.comparison_rows import block_of
from rnade_lightning.callbacks.likelihood import figures_of
from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.contexts import of_sequences
from rnade_lightning.datamodules.sound.spectra import Mel
from rnade_lightning.run_files import write_text
from rnade_lightning.scoring import block_sums

HERE = Path(__file__).parent
STORE = HERE / "results"
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


def run(task: str, name: str, data: str | None, seed: int, commit: str | None) -> Metrics:
    """Run a model or an ablation of a task from nothing, and store its metrics.

    Args:
        task: of ``experiments.yaml``.
        name: of a model or an ablation of it.
        data: where its data are; None for simulated ones.
        seed: of weights, order of windows, and draws.
        commit: that is checked out, without changes; None stores nothing.

    Raises:
        ValueError: files that were read differ from the commit at the end.
    """
    spec = experiments()[task]
    test = name in spec["models"]
    of = spec["models" if test else "ablations"][name] or {}
    folder = Path("runs", "results", task, slug(name), f"seed{seed}")
    members = [folder / f"member{i}" for i in range(of.get("members", 1))]
    commands, started, made = list[str](), time.time(), list[Metrics]()

    def execute(*arguments: str) -> None:
        commands.append(shlex.join(["python", "-m", "rnade_lightning", *arguments]))
        made.append(rnade_lightning(*arguments))

    alone = len(members) == 1
    for i, member in enumerate(members):
        own = seed if alone else 10 * (seed + 1) + i  # and of its order of the features
        more = [f"--seed_everything={own}", f"--test_after_fit={test and alone}".lower()]
        more += [] if alone else [f"--model.feature_order={own}"]
        execute("fit", *fit_arguments(spec, of, data, member), *more)
    best = [str(latest(member) / "checkpoints" / "best.ckpt") for member in members]
    tested, ckpt = latest(members[0]), best[0]
    if not alone:
        ckpt = str(folder / "ensemble.ckpt")
        execute("combine", f"--ckpt_paths=[{','.join(best)}]", f"--out={ckpt}")
        shared = [
            o
            for o in fit_arguments(spec, of, data, folder / "ensemble")
            if not o.startswith("--model")
        ]
        execute("test", *shared, f"--ckpt_path={ckpt}")
        tested = latest(folder / "ensemble")
    metrics: Metrics = {"task": task, "name": name, "seed": seed, "commands": commands}
    metrics |= {"seconds": round(time.time() - started)} | _training([latest(m) for m in members])
    metrics |= _made_of(made, latest(members[0]))
    metrics["val_blocks"] = validation_blocks(ckpt)
    if test:
        metrics |= _tested(tested) | {"free": free_running(ckpt) if of.get("free", True) else {}}
    if commit is None:
        return metrics
    check_unchanged(commit, metrics["files"])
    path = STORE / task / f"{slug(name)}-{seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in (metrics | {"code": commit}).items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"
    if data:  # where the data are here is nobody's business
        text = text.replace(data, f"PATH/{Path(data).name}")
    write_text(path, text)
    return metrics


def fit_arguments(spec: Metrics, of: Metrics, data: str | None, folder: Path) -> list[str]:
    """Return the arguments of ``fit`` of a row, whose runs go below a folder."""
    shared = [f"--config={path}" for path in _as_list(of.get("config", spec["config"]))]
    shared += [] if data is None else [f"--data.root={data}"]
    logger = (
        f"CSVLogger --trainer.logger.save_dir={folder.parent} --trainer.logger.name={folder.name}"
    )
    shared += [f"--trainer.logger={logger.split()[0]}", *logger.split()[1:]]
    return [*shared, "--trainer.enable_progress_bar=false", *_options(of)]


def _made_of(made: list[Metrics], run: Path) -> Metrics:
    """Return the provenance of the commands of a run, and figures that they left by the way."""
    files = {path: digest for of in made for path, digest in of.get("files", {}).items()}
    with open(run / "metrics.csv", newline="") as file:
        nll = [float(row["val/nll"]) for row in csv.DictReader(file) if row.get("val/nll")]
    curve = [[at, round(value, 4)] for (_, at), value in zip(made[0]["clock"], nll, strict=True)]
    return {
        "files": files,
        "curve": curve,
        "peak_mib": max(of.get("peak_mib", 0) for of in made),
    }


def rnade_lightning(*arguments: str) -> Metrics:
    """Run the command line in a process of its own, and return what it was made of."""
    if arguments[0] not in ("fit", "test"):
        subprocess.run([sys.executable, "-m", "rnade_lightning", *arguments], check=True)
        return {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "made.json")
        command = [sys.executable, "-m", "benchmarks.provenance", str(out), *arguments]
        subprocess.run(command, check=True)
        return json.loads(out.read_text())


def _options(of: Any) -> list[str]:
    return shlex.split(of.get("options", ""))


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def latest(folder: Path) -> Path:
    return max(folder.glob("version_*"), key=lambda p: int(p.name.split("_")[1]))


def _training(runs: list[Path]) -> Metrics:
    """Return figures of the training in the run folders of a model, or of an ensemble's members."""
    checkpoints = [load_checkpoint(str(path / "checkpoints" / "best.ckpt")) for path in runs]
    card = json.loads((runs[0] / "run.json").read_text())
    best = [of_best_epoch(path) for path in runs]
    return {
        "parameters": sum(t.numel() for c in checkpoints for t in c["state_dict"].values()),
        "updates": sum(b["updates"] for b in best),
        "best_epochs": [b["epoch"] for b in best],
        "val_nll": [b["nll"] for b in best],
        "frames": card["data"]["frames"],
        "features": card["data"]["n_features"],
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
    return found | _calibration(path) | _figures(path / "samples/figures.csv")


def _calibration(path: Path) -> Metrics:
    """Return the number of degenerate features, the floor, and the KS distance and the ends of the
    PIT on the test part."""
    with open(path / "metrics.csv", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row.get("test/n_degenerate")]
    known = ("n_degenerate", "floor", "ks", "pit_low", "pit_high")
    keys = [key for key in known if row.get(f"test/{key}")]
    return {"density": {key: round(float(row[f"test/{key}"]), 4) for key in keys}}


def validation_blocks(ckpt: str) -> Metrics:
    """Return log p of blocks of validation frames under a model, and the frames of each; none where
    there is no validation part."""
    checkpoint = load_checkpoint(ckpt)
    data, model = load_data(checkpoint), load_model(checkpoint).eval()
    first, sequences = data.warmup, list(data.sequences("val"))
    if not sequences:
        return {"frames": [], "log_p": []}
    by_frame = figures_of(model, sequences, first).by_frame.values()
    values = [torch.from_numpy(log_p)[first:] for log_p in by_frame]
    sums, frames = block_sums(values, block_of(data))
    return {"frames": frames.long().tolist(), "log_p": [round(v, 4) for v in sums.tolist()]}


def _figures(path: Path) -> Metrics:
    """Return the figures of long samples, by set; nothing for kinds of data without them."""
    if not path.is_file():
        return {}
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    sets = [name for name in rows[0] if name != "figure"]
    of = {s: {r["figure"]: float(r[s]) if r[s] else None for r in rows} for s in sets}
    return {"figures": of}


def of_best_epoch(path: Path) -> Metrics:
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
