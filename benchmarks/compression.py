"""Measure the coder of sound beside FLAC, on the same samples.

    python -m benchmarks.compression FILES [--ckpt_path C] [--code N] [--skip 600] [--out F.json]
                                           [--picture F.png]

Bits per sample are those of samples behind the first of each file (``--skip``), weighted by their
number. ``bank`` is the adaptive part alone, ``both`` that and the net, which compress writes;
``coded`` are whole streams of the first N files, decoded again and compared, and ``likelihood`` is
``both`` on these, from their first sample on. FLAC is ``flac -8 -e -p --no-padding``, whole files
with headers, where that program is installed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from rnade_lightning.coding import cells, channels, coder
from rnade_lightning.coding.commands import compress, decompress
from rnade_lightning.datamodules.sound import front_end
from rnade_lightning.kernels import experts


def bits_of(columns: np.ndarray, weights: experts.Weights) -> np.ndarray:
    """Return the bits of every coded sample ``(N, C)``, from the first on."""
    found = np.empty(columns.shape)
    for c in range(columns.shape[1]):
        given = columns.shape[1] == 2 and c == 1
        other = np.ascontiguousarray(columns[:, 0]) if given else np.zeros(0)
        x = np.ascontiguousarray(columns[:, c])
        state = front_end.start(given), experts.start(weights, x.min(), x.max()), weights
        steps = coder.steps_of(coder.zeros_of_parts(x), len(x))
        _, low, high, _, n_plain = cells.ends(*state, x, other, steps)
        found[:, c] = n_plain - np.log2(np.maximum(high - low, 2.0**-24)).sum(1)
    return found


def coded_samples(path: Path) -> np.ndarray:
    """Return the integers that are coded ``(N, C)``, float64."""
    signal = channels.measure(path)
    pieces = [
        channels.to_coded(samples, signal.shifts, signal.apart)
        for samples in channels.read(path, signal, 2**20)
    ]
    return np.concatenate(pieces).astype(np.float64)


def flac_bits(path: Path, n: int) -> float | None:
    """Return the bits per sample of ``flac -8 -e -p``."""
    if shutil.which("flac") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        wav, flac = Path(folder) / "a.wav", Path(folder) / "a.flac"
        if path.suffix == ".flac":
            subprocess.run(["flac", "-s", "-d", str(path), "-o", str(wav)], check=True)
        else:
            shutil.copy(path, wav)
        subprocess.run(
            ["flac", "-s", "--no-padding", "-8", "-e", "-p", str(wav), "-o", str(flac)], check=True
        )
        return 8 * flac.stat().st_size / n


def measure(files: Sequence[Path], ckpt_path: str | None, code: int, skip: int) -> dict[str, Any]:
    """Return the figures of files, each and together."""
    model = coder.load(ckpt_path)
    rows = []
    for i, path in enumerate(tqdm(files)):
        x = coded_samples(path)
        started = time.process_time()
        both = bits_of(x, model.weights)
        seconds = time.process_time() - started
        bank = bits_of(x, experts.NO_NET)
        row: dict[str, Any] = {
            "file": path.name,
            "samples": int(both[skip:].size),
            "both": float(both[skip:].mean()),
            "bank": float(bank[skip:].mean()),
            "flac": flac_bits(path, x.size),
            "samples_per_second": x.size / seconds,
        }
        if i < code:
            with tempfile.TemporaryDirectory() as folder:
                started = time.process_time()
                compress(str(path), f"{folder}/a", ckpt_path)
                encoded = time.process_time() - started
                (stream,) = Path(folder, "a").iterdir()
                started = time.process_time()
                decompress(str(stream), f"{folder}/b", ckpt_path)
                decoded = time.process_time() - started
                (back,) = Path(folder, "b").iterdir()
                if not (coded_samples(back) == x).all():
                    raise ValueError(f"{path}: comes back as another sound")
                row |= {
                    "coded": 8 * stream.stat().st_size / x.size,
                    "likelihood": float(both.mean()),
                    "encode_per_second": x.size / encoded,
                    "decode_per_second": x.size / decoded,
                }
        rows.append(row)
    return {"all": _together(rows), "files": rows}


def _together(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means of files, weighted by samples."""
    found = {}
    for key in rows[0]:
        of = [(row[key], row["samples"]) for row in rows if row.get(key) is not None]
        if key not in ("file", "samples") and of:
            values, weights = zip(*of, strict=True)
            found[key] = float(np.average(values, weights=weights))
    return found | {"samples": sum(row["samples"] for row in rows)}


def draw(path: Path, ckpt_path: str | None, picture: Path) -> None:
    """Draw bits over time above the spectrogram of a file."""
    import matplotlib.pyplot as plt
    import soundfile

    x, rate = coded_samples(path)[:, :1], soundfile.info(str(path)).samplerate
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(9, 5), layout="constrained")
    n = rate // 50
    for label, weights in (
        ("without the net", experts.NO_NET),
        ("with it", coder.load(ckpt_path).weights),
    ):
        bits = bits_of(x, weights)[:, 0]
        mean = bits[: len(bits) // n * n].reshape(-1, n).mean(1)
        seconds = (np.arange(len(mean)) + 0.5) * n / rate
        above.plot(seconds, mean, label=f"{label}: {bits.mean():.2f}", linewidth=1)
    flac = flac_bits(path, x.size)
    if flac is not None:
        above.axhline(flac, color="grey", linestyle=":", label=f"FLAC, mean: {flac:.2f}")
    above.set(ylabel="bits per sample, 20 ms", ylim=(0, None))
    above.legend(loc="lower right")
    below.specgram(x[:, 0] + 1e-3, NFFT=512, Fs=rate, noverlap=384, cmap="magma", vmin=-20)
    below.set(ylabel="Hz", xlabel="s")
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--ckpt_path")
    parser.add_argument("--code", type=int, default=0)
    parser.add_argument("--skip", type=int, default=600)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--picture", type=Path, help="bits over time of the first file")
    options = parser.parse_args()
    if options.picture:
        draw(options.files[0], options.ckpt_path, options.picture)
    found = measure(options.files, options.ckpt_path, options.code, options.skip)
    print(json.dumps(found["all"], indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
