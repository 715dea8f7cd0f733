"""Measure sound made by a vocoder of the mel of files, beside Griffin-Lim of the same mel.

    python -m benchmarks.vocoder FILES --ckpt_path C [--temperature 1.0] [--seed 0] [--out F.json]

Needs the extra ``vocoder`` (pystoi, pesq). Rows:

    griffin_lim    torchaudio's of the power that fits the mel: 64 iterations, random phases
    from_noise     what `log_mel` frames become without a vocoder: noise, fitted to the mel
    noise          white noise through the filters that the mel tells, fitted as a draw is: what a
                   vocoder that has learnt nothing makes
    drawn          a draw of the vocoder, before it is fitted to the mel
    vocoder        what ``sample --control FILE`` writes: the draw, fitted to the mel

Columns, means over files: log-spectral distance in dB (`log_spectral_distance`), STOI, PESQ (wide
band; narrow band at 8 kHz), and seconds of sound made in a second of one core.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torchaudio
from tqdm import tqdm

from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound.inversion import from_noise
from rnade_lightning.datamodules.sound.kinds.excitation import Excitation
from rnade_lightning.datamodules.sound.options import make_kind
from rnade_lightning.datamodules.sound.spectra import Mel, log_spectral_distance
from rnade_lightning.vocoder import Vocoder

try:
    from pesq import pesq
    from pystoi import stoi
except ModuleNotFoundError as missing:
    raise SystemExit(
        f"error: {missing.name} is not installed: pip install -e '.[vocoder]'"
    ) from None

COLUMNS = ("distance", "stoi", "pesq", "real_time")


def scores(made: np.ndarray, reference: np.ndarray, rate: int) -> list[float]:
    """Return log-spectral distance, STOI and PESQ of samples ``(N,)``."""
    n = min(len(made), len(reference))
    made, reference = made[:n], reference[:n]
    found = pesq(rate, reference, made, "nb" if rate < 16_000 else "wb")
    distance = log_spectral_distance(made, reference)
    return [distance, float(stoi(reference, made, rate)), float(found)]


def griffin_lim(mel: Mel, log_mel: Array) -> Array:
    """Return torchaudio's inversion ``(N,)`` of log mel power ``(T, n_mels)``."""
    power = mel.power(torch.from_numpy(mel.bounded(log_mel)).float().exp()).T
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # for the phases it starts from
        found = torchaudio.functional.griffinlim(
            power,
            window=mel.window,
            n_fft=mel.n_fft,
            hop_length=mel.hop_length,
            win_length=mel.n_fft,
            power=2.0,
            n_iter=64,
            momentum=0.99,
            length=(power.shape[1] - 1) * mel.hop_length,
            rand_init=True,
        )
    return np.asarray(found.double().numpy())


def measure(
    files: Sequence[Path], ckpt_path: str, temperature: float, seed: int
) -> dict[str, dict[str, float]]:
    """Return the means over files by row and column."""
    vocoder = Vocoder(ckpt_path)
    data, model = vocoder.data, vocoder.model
    kind, rate, mel = make_kind(data.kind, data.hparams), data.layout["sample_rate"], data.mel
    assert isinstance(kind, Excitation)
    assert mel is not None
    rows: dict[str, list[list[float]]] = {}
    for i, path in enumerate(tqdm(files)):
        sequence = data.score_input(path)
        true = data.destandardise(sequence.with_context())
        reference = kind.to_samples(true, rate)
        log_mel, context = mel.log_mel(reference), sequence.context
        generator = torch.Generator().manual_seed(seed + i)
        noise = true.copy()
        noise[:, : kind.frame_length] = torch.randn(sequence.frames.shape, generator=generator)
        started = time.process_time()
        how = {"generator": generator, "temperature": temperature, "context": context[None]}
        drawn = data.destandardise(model.sample(len(context), **how)[0, 0], context)
        drawing = time.process_time() - started
        for name, way, frames, seconds in (
            ("griffin_lim", partial(griffin_lim, mel), log_mel, 0.0),
            ("from_noise", partial(from_noise, mel), log_mel, 0.0),
            ("noise", data.to_samples, noise, 0.0),
            ("drawn", partial(kind.to_samples, rate=rate), drawn, drawing),
            ("vocoder", data.to_samples, drawn, drawing),
        ):
            started = time.process_time()
            made = way(frames)
            speed = len(made) / rate / (seconds + time.process_time() - started)
            rows.setdefault(name, []).append([*scores(made, reference, rate), speed])
    means = {name: np.mean(found, axis=0) for name, found in rows.items()}
    return {name: dict(zip(COLUMNS, map(float, of), strict=True)) for name, of in means.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--ckpt_path", required=True)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = measure(options.files, options.ckpt_path, options.temperature, options.seed)
    for name, of in found.items():
        print(name, *(f"{key} {value:.3f}" for key, value in of.items()))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
