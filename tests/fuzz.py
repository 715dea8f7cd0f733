"""Reads files with random damage, thousands of times: ``python tests/fuzz.py FILES --n 10000``.

Without files, a small one of every format that can be read is made and damaged. Each file is
damaged (bytes changed, cut out, doubled, swapped, the end cut off; numbers and words exchanged) and
read, in a process with a limit of memory and of time for each reading. What is packed is damaged
inside as often as outside, so that its check sums are right. Right is a `DataError` of one line
that names the file, or frames that are finite and as wide as their names and, where a format has
check sums of all that is sound, those of the whole file. All else is reported with the seed that
makes it again. Files of sound, and tables of them called manifest, are read as sound; what a
manifest lists lies beside it.
"""

import argparse
import gzip
import io
import os
import resource
import shutil
import signal
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from damaged import write_all, write_films

from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.core.arrays import ArrayDataModule
from rnade_lightning.datamodules.core.frames import Recording
from rnade_lightning.datamodules.core.reading import read_checked
from rnade_lightning.datamodules.motion.mocap import MocapDataModule
from rnade_lightning.datamodules.sound.audio import AudioDataModule
from rnade_lightning.datamodules.sound.corpora import read_manifest
from rnade_lightning.datamodules.sound.soundfiles import EXTENSIONS

SPECIAL = [
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"99999999999",
    b"",
    b"{",
    b"}",
    b"0",
    b"\xff\xfe",
    b"(",
]
SECONDS, GIBIBYTES = 20, 3.0
CHECKED = (".flac", ".ogg")


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return data with one to four faults."""
    damaged = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        n = len(damaged)
        if n < 4:
            break
        kind = rng.integers(0, 8)
        near_start = rng.random() < 0.5  # where formats keep what matters
        at = int(rng.integers(0, min(n, 2048) if near_start else n))
        length = int(rng.integers(1, 40))
        if kind == 0:
            damaged[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            damaged[at] = int(rng.integers(0, 256))
        elif kind == 2:
            damaged[at : at + length] = rng.bytes(length)
        elif kind == 3:
            del damaged[at : at + length]
        elif kind == 4:
            damaged[at:at] = damaged[at : at + length]
        elif kind == 5:
            del damaged[at:]
        elif kind == 6:
            damaged[at:at] = SPECIAL[rng.integers(0, len(SPECIAL))]
        else:  # a word of text becomes another
            stop = next((i for i in range(at, min(at + 30, n)) if damaged[i] in b" \n\t,"), at)
            damaged[at:stop] = SPECIAL[rng.integers(0, len(SPECIAL))]
    return bytes(damaged)


def damaged(name: str, data: bytes, rng: np.random.Generator) -> bytes:
    """Return a file with faults, which may be inside of what is packed."""
    if name.endswith(".gz") and rng.random() < 0.5:
        return gzip.compress(mutate(gzip.decompress(data), rng))
    if name.endswith(".npz") and rng.random() < 0.5:
        packed = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as whole, zipfile.ZipFile(packed, "w") as again:
            names = whole.namelist()
            bad = names[rng.integers(len(names))]
            for member in names:
                content = whole.read(member)
                again.writestr(member, mutate(content, rng) if member == bad else content)
        return packed.getvalue()
    return mutate(data, rng)


def reader_of(path: Path) -> Callable[[Path], Recording]:
    """Return the reader of a kind of file."""
    name = path.name.lower()
    if name.startswith("manifest"):
        return listed
    if name.endswith(EXTENSIONS):
        return partial(read_checked, AudioDataModule().read)
    if name.endswith((".npy", ".npz", ".csv")) and not name.startswith(("amass", "joints")):
        return partial(read_checked, ArrayDataModule().read)
    how = {"min_piece": 2, "max_gap": 1000, "noise": 0.01, "rename": {"LFingers": "LHand1"}}
    return partial(read_checked, MocapDataModule(**how).read)  # type: ignore[arg-type]


def listed(path: Path) -> Recording:
    """Return the files that a manifest lists, as so many frames."""
    return Recording({"": np.zeros((len(read_manifest(path)), 1))}, ["file"], 1.0, {})


def outcome(path: Path, read: Callable[[Path], Recording], whole: Recording | None = None) -> str:
    """Return the outcome of reading a file: "read", "refused", or what is wrong.

    Args:
        path: File to read.
        read: Its reader.
        whole: What it must hold if it is read, where that is known.
    """
    try:
        recording = read(path)
    except DataError as error:
        said = str(error)
        named = path.parent.name in said
        return "refused" if named and "\n" not in said else f"message {said[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    for frames in recording.frames.values():
        if frames.ndim != 2 or frames.shape[1] != len(recording.feature_names):
            return f"frames {frames.shape} of {len(recording.feature_names)} features"
        if not np.isfinite(frames).all():
            return "frames that are not finite"
        if whole is not None and not np.array_equal(frames, whole.frames[""]):
            return "other frames than those of the whole file"
    return "read"


def _child(path: Path, read: Callable[[Path], Recording], data: bytes, seeds: range) -> None:
    limit = int(GIBIBYTES * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit + _address_space(), resource.RLIM_INFINITY))
    report = os.fdopen(3, "w", buffering=1)
    path.write_bytes(data)
    whole = read(path) if path.name.endswith(CHECKED) else None
    for seed in seeds:
        path.write_bytes(damaged(path.name, data, np.random.default_rng(seed)))
        signal.alarm(SECONDS)
        report.write(f"{seed}\t{outcome(path, read, whole)}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    report.write(f"-1\t{peak:.2f}\n")


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def run(source: Path, n: int, first_seed: int = 0) -> tuple[Counter[str], list[str], float]:
    """Return counts of outcomes, faults with their seeds, and the peak of memory in GiB."""
    counts: Counter[str] = Counter()
    faults, peak, data = [], 0.0, source.read_bytes()
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / source.name
        for beside in source.parent.iterdir():  # what is read with it, or listed by it
            if beside != source and beside.name.lower().endswith((".asf", *EXTENSIONS)):
                shutil.copy(beside, folder)
        read = reader_of(path)
        if path.suffix.lower() == ".asf":  # what is damaged is read by way of the motion
            motion = next(source.parent.glob(f"{source.stem}*.amc"))
            shutil.copy(motion, folder)
            amc, plain = Path(folder) / motion.name, read
            read = lambda _: plain(amc)  # noqa: E731
        seed, last = first_seed, first_seed + n
        while seed < last:
            receive, send = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.dup2(send, 3)
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, 1)
                os.dup2(null, 2)
                _child(path, read, data, range(seed, min(seed + 500, last)))
                os._exit(0)
            os.close(send)
            with os.fdopen(receive) as report:
                for line in report:
                    number, _, said = line.rstrip("\n").partition("\t")
                    if number == "-1":
                        peak = max(peak, float(said))
                        continue
                    seed = int(number) + 1
                    counts[said if said in ("read", "refused") else "fault"] += 1
                    if said not in ("read", "refused"):
                        faults.append(f"seed {number}: {said}")
            status = os.waitpid(pid, 0)[1]
            if status:
                kind = "too slow" if os.WTERMSIG(status) == signal.SIGALRM else "crash"
                counts[kind] += 1
                faults.append(f"seed {seed}: {kind}, status {status}")
                seed += 1
    return counts, faults, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="files to damage")
    parser.add_argument("--n", type=int, default=10_000, help="damaged readings of each file")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    arguments = parser.parse_args()
    made = tempfile.TemporaryDirectory()
    files = list(write_all(Path(made.name)).values()) + write_films(Path(made.name))
    bad = 0
    for source in arguments.files or files:
        counts, faults, peak = run(source, arguments.n, arguments.seed)
        print(f"{source.name}: {dict(counts)}, peak {peak:.2f} GiB", flush=True)
        for fault in faults[:20]:
            print("  ", fault, flush=True)
        bad += len(faults)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
