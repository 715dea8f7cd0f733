"""Streams: what is coded comes back, and damage is found wherever it is."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from stand_in_coder import CODEC, StandIn

from rnade_lightning.coding import container
from rnade_lightning.coding.channels import Checksum, Integers, Signal, to_coded
from rnade_lightning.coding.container import CUT, DAMAGED, OTHERWISE, Codec, Stream, write
from rnade_lightning.datamodules import DataError

HEADER = 37  # bytes, in mono, of no samples


def signal_of(samples: Integers, bits: int = 16, **kwargs: object) -> Signal:
    checksum = Checksum()
    checksum.add(samples)
    zeros, apart = [0] * samples.shape[1], samples.shape[1] != 2
    coded = (
        to_coded(samples, zeros, apart) if len(samples) else np.zeros((1, samples.shape[1]), int)
    )
    ranges = tuple(coded.min(0).tolist()), tuple(coded.max(0).tolist())
    what = "WAV", 16_000, bits, len(samples), checksum.digest(), *ranges
    signal = Signal(*what, tuple(zeros), apart)
    return signal._replace(**kwargs)  # type: ignore[arg-type]


def noise(n: int, n_channels: int = 1, bits: int = 16) -> Integers:
    full = 1 << (bits - 1)
    return np.random.default_rng(0).integers(-full, full, (n, n_channels))


def header_of(samples: Integers) -> int:
    """Return how many bytes a header takes."""
    file = io.BytesIO()
    write(file, signal_of(samples), [], CODEC)
    return len(file.getvalue())


def coded(samples: Integers, bits: int = 16, codec: Codec = CODEC) -> bytes:
    file = io.BytesIO()
    pieces = [samples[i : i + container.BLOCK] for i in range(0, len(samples), container.BLOCK)]
    write(file, signal_of(samples, bits), pieces, codec)
    return file.getvalue()


def decoded(data: bytes, codec: Codec = CODEC) -> tuple[Integers, str | None]:
    """Return what comes back, and the fault that is told."""
    stream = Stream(io.BytesIO(data), Path("a.rnade"))
    n_good = stream.n_good
    found = list(stream.samples(codec))
    empty = np.empty((0, stream.signal.n_channels), np.int64)
    samples = np.concatenate([empty, *found])
    assert stream.n_good == len(samples) <= n_good
    return samples, stream.fault


def refusal(data: bytes, codec: Codec = CODEC) -> str:
    with pytest.raises(DataError, match=r"^a\.rnade: ") as error:
        decoded(data, codec)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(container, "BLOCK", 20)
    return 20


@pytest.mark.parametrize("bits", [8, 16, 24])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 19, 20, 21, 100])
def test_samples_come_back(n: int, n_channels: int, bits: int, short_blocks: int) -> None:
    samples = noise(n, n_channels, bits)
    found, fault = decoded(coded(samples, bits))
    assert fault is None
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, samples)


@pytest.mark.parametrize("value", [0, -1, 32767, -32768])
def test_constants_come_back(value: int) -> None:
    samples = np.full((40_000, 2), value)
    np.testing.assert_array_equal(decoded(coded(samples))[0], samples)


def test_the_frame_is_small() -> None:
    """Below 0.1 % of speech, which needs some 6 bits a sample at 8 kHz or more."""
    assert len(coded(noise(0))) == HEADER
    assert len(coded(noise(0, 2))) == HEADER + 3
    assert header_of(noise(10_000, 2, 24)) <= HEADER + 20
    of_block = container._BLOCK.size + container._CRC.size
    assert of_block < 0.001 * container.BLOCK * 6 / 8


def test_a_cut_loses_only_what_comes_after_it(short_blocks: int) -> None:
    samples = noise(70)
    data, header = coded(samples), header_of(samples)
    lengths = set()
    for n in range(len(data)):
        if n < header:
            assert ("header" if n else "not a stream") in refusal(data[:n])
            continue
        found, fault = decoded(data[:n])
        assert fault == CUT
        np.testing.assert_array_equal(found, samples[: len(found)])
        lengths.add(len(found))
    assert lengths == {0, 20, 40, 60}


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_no_flipped_byte_is_passed_over(flip: int, short_blocks: int) -> None:
    samples = noise(50, 2)
    data = coded(samples)
    header = header_of(samples)
    starts = np.cumsum([0, *map(len, _blocks_of(data, header))]) + header
    assert starts[-1] == len(data)
    for i in range(len(data)):
        damaged = bytearray(data)
        damaged[i] ^= flip
        if i < header:
            assert refusal(bytes(damaged))
            continue
        found, fault = decoded(bytes(damaged))
        assert fault in (CUT, DAMAGED)  # a length can lead behind the end
        block = int(np.searchsorted(starts, i, "right")) - 1
        np.testing.assert_array_equal(found, samples[: block * short_blocks])


def _blocks_of(data: bytes, start: int) -> list[bytes]:
    """Return the blocks of a stream, read by the table in the documentation."""
    found = []
    while start < len(data):
        (length,) = struct.unpack_from("<I", data, start)
        found.append(data[start : start + 10 + length])
        start += 10 + length
    return found


def test_blocks_keep_their_order(short_blocks: int) -> None:
    samples = noise(80)
    data = coded(samples)
    header = header_of(samples)
    one, two, three, four = _blocks_of(data, header)
    head = data[:header]
    for blocks in ((two, one, three, four), (one, three, two, four), (one, one, two, three)):
        found, fault = decoded(head + b"".join(blocks))
        assert fault == DAMAGED
        np.testing.assert_array_equal(found, samples[: len(found)])
    other = _blocks_of(coded(samples[::-1]), header)
    assert decoded(head + b"".join(other))[1] == DAMAGED


@pytest.mark.parametrize("more", [b"\0", b"x" * 500])
@pytest.mark.parametrize("n", [0, 50])
def test_what_follows_the_end_is_refused(n: int, more: bytes) -> None:
    data = coded(noise(n))
    assert f"keep its first {len(data)} bytes" in refusal(data + more)
    assert "behind its end" in refusal(data + data)


def test_another_model_is_refused() -> None:
    said = refusal(coded(noise(50)), Codec(StandIn, b"another."))
    assert "made with another model" in said
    assert "--ckpt_path" in said
    assert b"stand-in".hex()[:8] in said


@pytest.mark.parametrize(("start", "said"), [
    (b"RIFF" + bytes(100), "not a stream"), (b"", "not a stream"), (b"rnad", "header is cut"),
    (b"rnade\x1a\x03" + bytes(100), "version 3 of the format.*update"),
    (b"rnade\x1a\x01" + bytes(100), "version 1 of the format.*the one that made it"),
])  # fmt: skip
def test_other_files_are_refused(start: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        decoded(start)


def forged(**kwargs: object) -> bytes:
    """Return a header whose sums are right and whose content is not."""
    file = io.BytesIO()
    signal = signal_of(noise(0), **kwargs)  # type: ignore[arg-type]
    write(file, signal, [], CODEC)
    return file.getvalue()


@pytest.mark.parametrize("kwargs", [
    {"rate": 0}, {"rate": 1 << 31}, {"bits": 13}, {"n_samples": 1 << 46}, {"shifts": (40,)},
    {"lows": (9,)}, {"highs": (1 << 20,)},
])  # fmt: skip
def test_absurd_headers_are_refused(kwargs: dict[str, object]) -> None:
    assert "its header tells of" in refusal(forged(**kwargs))


@pytest.mark.parametrize(("at", "value"), [(28, 0), (28, 1), (28, 130), (16, 3), (16, 9)])
def test_unknown_channels_and_formats_are_refused(at: int, value: int) -> None:
    head = bytearray(forged()[:-4])
    head[at] = value
    assert "header is cut or damaged" in refusal(bytes(head) + struct.pack("<I", zlib.crc32(head)))


def test_a_claim_reserves_no_memory() -> None:
    hours = forged(container="WAV", n_samples=1 << 30, rate=8000)
    lying = hours + struct.pack("<IHI", 1 << 17, 0, 0) + b"few bytes"
    for data in (hours, hours + b"few bytes", lying, hours + b"\xff" * 30):
        tracemalloc.start()
        found, fault = decoded(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (len(found), fault in (CUT, DAMAGED)) == (0, True)
        assert peak < 100_000


def test_a_decoder_that_computes_otherwise_is_seen_where_it_does(short_blocks: int) -> None:
    class Elsewhere(StandIn):
        n_blocks = 0

        def decode(self, data: bytes, n: int) -> np.ndarray:
            self.n_blocks += 1
            return super().decode(data, n) + (self.n_blocks == 3)

    class Short(StandIn):
        def decode(self, data: bytes, n: int) -> np.ndarray:
            return super().decode(data, n)[1:]

    class Lost(StandIn):
        def decode(self, data: bytes, n: int) -> np.ndarray:
            raise ValueError("cannot be a block")

    samples = noise(80)
    found, fault = decoded(coded(samples), Codec(Elsewhere, CODEC.digest))
    assert fault == OTHERWISE
    np.testing.assert_array_equal(found, samples[:40])
    for kind in (Short, Lost):
        found, fault = decoded(coded(samples), Codec(kind, CODEC.digest))
        assert (len(found), fault) == (0, OTHERWISE)


def test_samples_that_the_file_cannot_hold_are_not_given(short_blocks: int) -> None:
    wide = noise(40)
    wide[:, 0] = 127
    wide[30] = 128
    file = io.BytesIO()
    write(file, signal_of(wide, 8, highs=(127,)), [wide[:20], wide[20:]], Codec(Unbound, b"0" * 8))
    found, fault = decoded(file.getvalue(), Codec(Unbound, b"0" * 8))
    assert (len(found), fault) == (20, OTHERWISE)


class Unbound(StandIn):
    """Takes values outside of the ranges."""

    def encode(self, samples: np.ndarray) -> bytes:
        self.highs = self.highs + 1000
        return super().encode(samples)


def test_a_coder_that_makes_it_large_is_refused() -> None:
    class Large(StandIn):
        def encode(self, samples: np.ndarray) -> bytes:
            return bytes(2000 + 8 * samples.size)

    with pytest.raises(ValueError, match="above the"):
        coded(noise(30), 16, Codec(Large, CODEC.digest))


def test_random_bytes_are_never_a_sound(short_blocks: int) -> None:
    rng = np.random.default_rng(1)
    good = coded(noise(45))
    for _ in range(300):
        data = bytearray(good)
        start, n = rng.integers(len(data)), rng.integers(1, 40)
        data[start : start + n] = rng.bytes(int(rng.integers(0, 60)))
        if bytes(data) == good:
            continue
        try:
            found, fault = decoded(bytes(data))
        except DataError:
            continue
        assert fault
        np.testing.assert_array_equal(found, noise(45)[: len(found)])
