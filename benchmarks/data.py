"""Measure throughput and memory of the data side: preparing, statistics, loading, and a corpus ten
times as large.

Run ``python -m benchmarks.data``; ``--data`` names a folder of .bvh takes (by default the motion
shipped with the package, which is repeated), ``--speech`` a folder of sound to prepare. Times
depend on the machine and on what else runs on it; but for preparing, the best of three is printed.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rnade_lightning.datamodules import FrameDataModule, MocapDataModule
from rnade_lightning.datamodules.core.files import find_files
from rnade_lightning.datamodules.core.moments import moments
from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.core.store import Kept
from rnade_lightning.datamodules.sound.audio import AudioDataModule

_WINDOW, _BATCH = 64, 32


class NumbersDataModule(FrameDataModule):
    """Frames in ``.npy`` files. Reading costs nothing, so only what comes after it is measured."""

    extensions = (".npy",)

    def read(self, path: Path) -> Recording:
        frames = np.load(path, mmap_mode="r")
        return Recording({"": frames}, [f"x{d}" for d in range(frames.shape[1])], 100.0, {})

    def write(self, raw: np.ndarray, stem: Path) -> list[Path]:
        raise NotImplementedError


def best(action: Callable[[], Any], repeats: int = 3) -> float:
    """Return the seconds of the fastest of some repetitions."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


def copies(folder: Path, files: list[Path], n: int) -> Path:
    """Return a folder of ``n`` symbolic links to each file, each under a name of its own."""
    folder.mkdir()
    for i, file in enumerate(files):
        for k in range(n):
            (folder / f"{i}_{k}_{file.name}").symlink_to(file.resolve())
    return folder


def preparing(data: str | None, scratch: Path) -> None:
    """Return the motion frames per second from BVH into the store, and the time to open it
    again."""
    source = find_files(data or MocapDataModule.shipped or "", (".bvh", ".bvh.gz"))
    root = copies(scratch / "takes", source, 1 if len(source) > 20 else -(-40 // len(source)))
    files = find_files(root, (".bvh", ".bvh.gz"))
    data_module = MocapDataModule(str(root), fps=120.0, cache_dir=str(scratch / "cache"))

    def prepare() -> int:
        kept = data_module._store().open(files, len(os.sched_getaffinity(0)), bar=False)
        return sum(len(x) for k in kept if isinstance(k, Kept) for x in k.frames.values())

    def cpu() -> float:
        both = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in both)

    start, used = time.perf_counter(), cpu()
    n = prepare()
    seconds, used = time.perf_counter() - start, cpu() - used
    print(f"prepare motion: {len(files)} takes, {n} frames (120 Hz) in {seconds:.1f} s: ", end="")
    print(f"{n / seconds:,.0f} frames/s, {n / used:,.0f} for each second of a core")
    print(f"opened again in {best(prepare) * 1e3:.0f} ms")


def preparing_speech(folder: str, scratch: Path) -> None:
    """Return the seconds of sound per second from files into the store, by kind of frame."""
    files = find_files(folder, AudioDataModule.extensions)
    kinds: tuple[Any, ...] = ("waveform", "residual", "log_mel")
    for kind in kinds:
        data = AudioDataModule(folder, kind=kind, cache_dir=str(scratch / "speech"))
        start = time.perf_counter()
        kept = data._store().open(files, len(os.sched_getaffinity(0)), bar=False)
        seconds, sound = time.perf_counter() - start, 0.0
        for k in kept:
            if isinstance(k, Kept):
                sound += sum(map(len, k.frames.values())) / k.about.frame_rate
        print(f"prepare {kind}: {len(files)} files, {sound / 60:.1f} min", end="")
        print(f" in {seconds:.1f} s: {sound / seconds:,.0f} times real time")


def loading(scratch: Path) -> None:
    """Return the frames per second of the training loader, and of statistics."""
    rng = np.random.default_rng(0)
    for name, n_features in (("waveform", 200), ("mel", 80), ("motion", 62)):
        root = scratch / name
        root.mkdir()
        for i in range(40):
            np.save(root / f"{i}.npy", rng.standard_normal((2500, n_features), dtype=np.float32))
        for workers in (0, 2):
            data = NumbersDataModule(
                str(root), window=_WINDOW, stride=_WINDOW, batch_size=_BATCH, num_workers=workers,
                val_fraction=0.0, test_fraction=0.0, cache_dir=str(scratch / "cache"),
            )  # fmt: skip
            loader = data.train_dataloader()
            seconds = best(lambda loader=loader: [None for _ in loader])
            print(
                f"loader, {name} ({n_features}), {workers} workers: {1e5 / seconds:,.0f} frames/s"
            )
        frames = [raw for _, raw in data._raw["train"]]
        print(f"statistics, {name}: {1e5 / best(lambda f=frames: moments(f)):,.0f} frames/s")


def memory(scratch: Path) -> None:
    """Return the peak memory of statistics and one epoch, for a corpus and one ten times as
    large."""
    rng = np.random.default_rng(0)
    files = []
    for i in range(50):
        files.append(scratch / f"source{i}.npy")
        np.save(files[-1], rng.standard_normal((10_000, 80), dtype=np.float32))
    for n in (1, 10):
        root = copies(scratch / f"times{n}", files, n)
        program = "import sys; from benchmarks.data import epoch; epoch(sys.argv[1], sys.argv[2])"
        done = subprocess.run(
            [sys.executable, "-c", program, str(root), str(scratch / f"cache{n}")],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        size = n * sum(file.stat().st_size for file in files) / 1e6
        print(f"memory, {size:,.0f} MB of frames: {done.stdout.strip()}")


def epoch(root: str, cache: str) -> None:
    """Run one epoch over a folder; print the peak of this process and of its largest child."""

    def peak() -> float:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1e3

    start = peak()
    data = NumbersDataModule(
        root, window=_WINDOW, stride=_WINDOW, batch_size=_BATCH, cache_dir=cache
    )
    n_frames = sum(int(batch["mask"].sum()) for batch in data.train_dataloader())
    print(f"peak {peak():.0f} MB, of which imports {start:.0f} MB ({n_frames} frames loaded)")


def main() -> None:
    """Run all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of .bvh takes")
    parser.add_argument("--speech", help="folder of sound to prepare")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        preparing(arguments.data, scratch)
        if arguments.speech:
            preparing_speech(arguments.speech, scratch)
        loading(scratch)
        memory(scratch)


if __name__ == "__main__":
    main()
