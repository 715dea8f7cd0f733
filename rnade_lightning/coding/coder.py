"""Make the distribution of every sample into bits, and bits into samples.

The distribution is that of `kernels.experts`; a range coder (of the package constriction: Bamler
2022, *Understanding entropy coding with ANS*) writes each sample in as many bits as minus log2 of
its mass; see `cells`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import constriction
import numpy as np
import numpy.typing as npt

from rnade_lightning.checkpoint_files import load_checkpoint
from rnade_lightning.checkpoints import load_model
from rnade_lightning.coding import cells
from rnade_lightning.coding.channels import zero_bits
from rnade_lightning.datamodules.core import Array
from rnade_lightning.datamodules.sound import front_end
from rnade_lightning.kernels import experts as kernel
from rnade_lightning.kernels.experts import Weights, weights_of
from rnade_lightning.rnn_experts import RNNExperts

VERSION = 2
"""Of the recursion: raised with every change of a number in it."""
PART = 1024
"""Samples of a channel whose zero bits are told together."""
SHIPPED = Path(__file__).parents[1] / "models" / "speech"
"""The model that comes with this package, of one voice at 16 kHz; see ``docs/compression.md``."""


def digest_of(weights: Weights) -> bytes:
    """Return 8 bytes that tell weights and the version of the recursion from any other."""
    found = hashlib.blake2b(VERSION.to_bytes(4, "little"), digest_size=8)
    for part in weights:
        found.update(np.ascontiguousarray(part).astype(part.dtype.newbyteorder("<")).tobytes())
    return found.digest()


class Model(NamedTuple):
    """Weights that streams are coded with, and their digest.

    Attributes:
        weights: Of the net.
        digest: 8 bytes that tell them, and the version of the recursion, from any other.
    """

    weights: Weights
    digest: bytes


def load(ckpt_path: str | None) -> Model:
    """Return the model of a checkpoint, or the one that comes with this package.

    Raises:
        ValueError: The checkpoint holds no model of integer samples.
    """
    checkpoint = load_checkpoint(ckpt_path or str(SHIPPED))
    model = load_model(checkpoint)
    if not isinstance(model, RNNExperts):
        raise ValueError(
            f"{ckpt_path}: holds a {type(model).__name__}, which gives integers no mass: train one"
            " with configs/speech_bits.yaml, or leave --ckpt_path out"
        )
    return model_of(model)


def model_of(model: RNNExperts) -> Model:
    """Return a model to code with."""
    weights = weights_of(model)
    return Model(weights, digest_of(weights))


class Coder:
    """Codes the channels of one sound, block by block.

    Args:
        model: What to code with.
        lows: Smallest value of each channel. The second of two is coded given the first, whose
            sample at the same time is known.
        highs: Largest value of each channel.
        sample_rate: Samples a second; the recursion is the same for all.
    """

    def __init__(
        self, model: Model, lows: Sequence[int], highs: Sequence[int], sample_rate: int
    ) -> None:
        n = len(lows)
        self._channels = [
            _Channel(model.weights, n == 2 and i == 1, float(lows[i]), float(highs[i]))
            for i in range(n)
        ]

    def encode(self, samples: np.ndarray) -> bytes:
        """Return the bits of the next samples ``(n, C)``, int64."""
        columns = np.asarray(samples, np.float64).T
        parts = [
            channel.encode(np.ascontiguousarray(x), columns[0])
            for channel, x in zip(self._channels, columns, strict=True)
        ]
        return b"".join(_sized(part) for part in parts[:-1]) + parts[-1]

    def decode(self, data: bytes, n: int) -> np.ndarray:
        """Return the next n samples ``(n, C)``, int64.

        Raises:
            ValueError: the bits are not those of n samples.
        """
        found = np.zeros((n, len(self._channels)), np.int64)
        first = np.zeros(n)
        for i, channel in enumerate(self._channels):
            own, data = _apart(data) if i + 1 < len(self._channels) else (data, b"")
            found[:, i] = channel.decode(own, n, first)
            if i == 0:
                first = found[:, 0].astype(np.float64)
        return found


def _sized(data: bytes) -> bytes:
    """Return bytes with their number before them."""
    return len(data).to_bytes(4, "little") + data


def _apart(data: bytes) -> tuple[bytes, bytes]:
    """Return the bytes that `_sized` marked, and those behind them."""
    stop = 4 + int.from_bytes(data[:4], "little")
    if len(data) < max(stop, 4):
        raise ValueError("a block ends before its parts do")
    return data[4:stop], data[stop:]


class _Channel:
    """Codes one channel, given another or not."""

    def __init__(self, weights: Weights, given: bool, low: float, high: float) -> None:
        self._stream, self._given = constriction.stream, given
        self._state = front_end.start(given), kernel.start(weights, low, high), weights
        net, K = self._state[1], int(weights.sizes[3])
        self._mixture = net.cells, net.weight, net.mean, net.inverse, net.table, K
        self._model = constriction.stream.model.CustomModel(
            lambda x: cells.at_edge(x + 0.5, *self._mixture),
            lambda q: cells.guess(q, *self._mixture),
            -cells.CELLS,
            cells.CELLS - 1,
        )

    def encode(self, samples: Array, other: Array) -> bytes:
        other = other if self._given else np.zeros(0)
        zeros = zeros_of_parts(samples)
        found = cells.ends(*self._state, samples, other, steps_of(zeros, len(samples)))
        told = ~np.isnan(found[0])
        symbols, low, high = found[0][told].astype(np.int32), found[1][told], found[2][told]
        family = self._stream.model.CustomModel(
            lambda x, i: low[int(i)] if x < symbols[int(i)] else high[int(i)],
            lambda q, i: float(symbols[int(i)]),
            -cells.CELLS,
            cells.CELLS - 1,
        )
        encoder = self._stream.queue.RangeEncoder()
        encoder.encode(symbols, family, np.arange(len(symbols), dtype=np.float64))
        words = encoder.get_compressed().astype("<u4").tobytes()
        plain, n_plain = found[3:]
        kind = n_plain.any() + 2 * zeros.any()
        head = bytes([kind]) + (zeros.tobytes() if kind & 2 else b"")
        return head + (_sized(words) + _written(plain, n_plain) if kind & 1 else words)

    def decode(self, data: bytes, n: int, other: Array) -> Array:
        kind, data = data[0] if data else 4, data[1:]
        zeros = np.zeros(-(-n // PART), np.uint8)
        if kind & 2:
            zeros, data = np.frombuffer(data[: len(zeros)], np.uint8), data[len(zeros) :]
        coded, plain_bits = _apart(data) if kind & 1 else (data, b"")
        if kind > 3 or len(coded) % 4 or len(zeros) * PART < n or (zeros > 30).any():
            raise ValueError("a block has no whole number of words, or no steps")
        words = np.frombuffer(coded, "<u4").astype(np.uint32)
        decoder, plain = self._stream.queue.RangeDecoder(words), _Plain(plain_bits)
        found, at, taken = np.empty(n), self._state[1].cells, np.zeros(1)
        steps, other = steps_of(zeros, n), other if self._given else np.zeros(n)
        for t in cells.each(*self._state, taken, other, steps):
            cell = decoder.decode(self._model)
            if not -cells.CELLS < cell < cells.CELLS - 1:
                x = float(plain.take(cells.PLAIN) - 2 ** (cells.PLAIN - 1))
            elif at[1] == at[5]:
                x = float(at[0] + (cell + 0.5) * at[5])
            else:
                cells.enter(float(cell), *self._mixture)
                width, cell = int(at[1] / at[5]), decoder.decode(self._model)
                place = plain.take(width.bit_length() - 1) + 0.5
                x = float(at[0] + cell * at[1] + place * at[5])
            taken[0] = found[t] = x
        return found


def zeros_of_parts(samples: Array) -> npt.NDArray[np.uint8]:
    """Return how many bits at the end of all samples are 0, for each part of `PART` samples.

    >>> zeros_of_parts(np.array([4.0, -8.0, 0.0])).tolist(), zeros_of_parts(np.zeros(3)).tolist()
    ([2], [0])
    """
    starts = np.arange(0, len(samples), PART)
    used = np.bitwise_or.reduceat(samples.astype(np.int64), starts) if len(starts) else starts
    return np.array([zero_bits(x) for x in used.tolist()], np.uint8)


def steps_of(zeros: npt.NDArray[np.uint8], n: int) -> Array:
    """Return the steps of n samples, of which each part has so many zero bits."""
    return np.repeat(2.0 ** zeros.astype(np.float64), PART)[:n]


def _written(plain: Array, n_plain: Array) -> bytes:
    """Return numbers as bits, each in as many as it takes."""
    which = np.flatnonzero(n_plain)
    text = "".join(format(int(plain[t]), f"0{int(n_plain[t])}b") for t in which)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tobytes()


class _Plain:
    """Reads numbers that `_written` wrote."""

    def __init__(self, data: bytes) -> None:
        self._bits = np.unpackbits(np.frombuffer(data, np.uint8))
        self._at = 0

    def take(self, n: int) -> int:
        """Return the next number, of n bits."""
        if not n:
            return 0
        own = self._bits[self._at : self._at + n]
        if len(own) < n:
            raise ValueError("a block ends before its samples do")
        self._at += n
        return int("".join(map(str, own)), 2)
