"""Files as integers and back: every sample, every width, every number of channels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from rnade_lightning.coding import channels
from rnade_lightning.coding.channels import Integers, Signal, measure, read, to_coded, to_samples
from rnade_lightning.datamodules import DataError

SUBTYPES = {("WAV", 8): "PCM_U8", ("FLAC", 8): "PCM_S8"}


def drawn(n: int, n_channels: int, bits: int, seed: int = 0) -> Integers:
    """Return samples from all of the range, its ends among them."""
    full = 1 << (bits - 1)
    samples = np.random.default_rng(seed).integers(-full, full, (n, n_channels))
    samples[: n // 2] >>= bits // 2
    if n > 1:
        samples[0], samples[-1] = -full, full - 1
    return samples


def saved(path: Path, samples: Integers, bits: int, rate: int = 16_000) -> Path:
    """Write integers by another way than the package: from 32 bits, through libsndfile."""
    container = path.suffix[1:].upper()
    subtype = SUBTYPES.get((container, bits), f"PCM_{bits}")
    soundfile.write(path, (samples << (32 - bits)).astype(np.int32), rate, subtype)
    return path


def loaded(path: Path, bits: int) -> Integers:
    samples, _ = soundfile.read(path, dtype="int32", always_2d=True)
    return samples.astype(np.int64) >> (32 - bits)


def rewritten(path: Path, target: Path) -> Signal:
    signal = measure(path)
    with channels.Writer(target, signal) as writer:
        for samples in read(path, signal, 1000):
            writer.write(samples)
    assert writer.checksum.digest() == signal.checksum
    return signal


@pytest.mark.parametrize("n_channels", [1, 2, 3])
@pytest.mark.parametrize("bits", [8, 16, 24])
@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_a_file_comes_back(ending: str, bits: int, n_channels: int, tmp_path: Path) -> None:
    samples = drawn(2500, n_channels, bits)
    path = saved(tmp_path / f"a.{ending}", samples, bits, 11_025)
    signal = rewritten(path, tmp_path / "part")
    assert (signal.n_samples, signal.n_channels, signal.bits) == (2500, n_channels, bits)
    a, b = soundfile.info(path), soundfile.info(tmp_path / "part")
    for of in ("samplerate", "channels", "frames", "format", "subtype"):
        assert getattr(a, of) == getattr(b, of)
    np.testing.assert_array_equal(loaded(tmp_path / "part", bits), samples)
    assert np.concatenate(list(read(path, signal, 999))).tolist() == samples.tolist()


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("n_channels", [1, 2, 3])
def test_next_to_nothing_comes_back(n: int, n_channels: int, tmp_path: Path) -> None:
    samples = drawn(n, n_channels, 16)
    signal = rewritten(saved(tmp_path / "a.wav", samples, 16), tmp_path / "part")
    assert signal.n_samples == n
    np.testing.assert_array_equal(loaded(tmp_path / "part", 16).reshape(-1, n_channels), samples)


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_stereo_is_reversible_at_the_ends_of_the_range(bits: int) -> None:
    full = 1 << (bits - 1)
    ends = [-full, -full + 1, -2, -1, 0, 1, 2, full - 2, full - 1]
    samples = np.array([(left, right) for left in ends for right in ends])
    coded = to_coded(samples, [0, 0], apart=False)
    assert coded[:, 0].tolist() == [(left + right) // 2 for left, right in samples.tolist()]
    assert coded[:, 1].tolist() == [left - right for left, right in samples.tolist()]
    np.testing.assert_array_equal(to_samples(coded, [0, 0], apart=False), samples)


@pytest.mark.parametrize(("n_channels", "shift"), [(1, 8), (2, 8), (3, 3), (2, 1)])
def test_zero_bits_are_shifted_out(n_channels: int, shift: int, tmp_path: Path) -> None:
    samples = drawn(500, n_channels, 16 - shift) << shift
    signal = rewritten(saved(tmp_path / "a.wav", samples, 16), tmp_path / "part")
    assert signal.shifts == (shift,) * n_channels
    assert signal.apart == (n_channels != 2)
    coded = to_coded(samples, signal.shifts, signal.apart)
    assert (coded.min(0).tolist(), coded.max(0).tolist()) == ([*signal.lows], [*signal.highs])
    np.testing.assert_array_equal(to_samples(coded, signal.shifts, signal.apart), samples)


def test_channels_have_shifts_of_their_own_but_not_in_stereo(tmp_path: Path) -> None:
    samples = drawn(500, 3, 12) << [4, 0, 2]
    samples[3] = 4, 3, 4
    assert measure(saved(tmp_path / "a.wav", samples, 16)).shifts[:2] == (2, 0)
    stereo = np.stack((samples[:, 0], np.zeros(500, np.int64)), axis=1)
    assert measure(saved(tmp_path / "b.wav", stereo, 16)).shifts == (2, 2)


@pytest.mark.parametrize("right", [7, None])
def test_stereo_is_coded_apart_where_a_mean_would_cost_more(
    right: int | None, tmp_path: Path
) -> None:
    """One channel stands still, or has more zero bits."""
    samples = drawn(500, 2, 12) << [4, 0]
    samples[:, 1] |= 1
    if right is not None:
        samples[:, 1] = right
    signal = rewritten(saved(tmp_path / "a.wav", samples, 16), tmp_path / "part")
    assert signal.apart
    assert signal.shifts == (0, 0)
    coded = to_coded(samples, signal.shifts, signal.apart)
    assert coded.tolist() == samples.tolist()
    assert (coded.min(0).tolist(), coded.max(0).tolist()) == ([*signal.lows], [*signal.highs])


def test_silence_has_no_range(tmp_path: Path) -> None:
    signal = measure(saved(tmp_path / "a.flac", np.zeros((100, 2), np.int64), 16))
    assert (signal.lows, signal.highs, signal.shifts) == ((0, 0), (0, 0), (0, 0))


def test_8_bit_wav_is_unsigned_in_the_file_only(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.wav", np.array([[-128], [0], [127], [5]]), 8)
    assert path.read_bytes()[-4:] == bytes([0, 128, 255, 133])
    assert (measure(path).lows, measure(path).highs) == ((-128,), (127,))


def test_an_extended_header_stays_one(tmp_path: Path) -> None:
    path, data = tmp_path / "a.wav", np.arange(60, dtype=np.int16).reshape(-1, 2)
    soundfile.write(path, data, 8000, "PCM_16", format="WAVEX")
    assert rewritten(path, tmp_path / "part").container == "WAVEX"
    assert soundfile.info(tmp_path / "part").format == "WAVEX"


@pytest.mark.parametrize("n_channels", range(1, 9))
def test_what_a_header_says_and_no_file_that_comes_back_does_is_told(
    n_channels: int, tmp_path: Path
) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((9, n_channels)), 8000, "PCM_24", format="WAVEX")
    assert channels.not_kept(path, measure(path)) == ""
    content = bytearray(path.read_bytes())
    at = content.find(b"fmt ") + 8
    content[at + 18 : at + 20] = (20).to_bytes(2, "little")
    path.write_bytes(content)
    assert channels.not_kept(path, measure(path)) == "that 20 of its 24 bits are used"
    content[at + 20 : at + 24] = (0x600).to_bytes(4, "little")
    path.write_bytes(content)
    told = channels.not_kept(path, measure(path))
    assert told.endswith("used and where its loudspeakers stand (mask 0x600)")
    for plain in (saved(tmp_path / "b.wav", drawn(9, 2, 16), 16), tmp_path / "c.flac"):
        soundfile.write(tmp_path / "c.flac", np.zeros((9, 2)), 8000, "PCM_16")
        assert channels.not_kept(plain, measure(plain)) == ""


@pytest.mark.parametrize("rate", [1, 700, 8000, 192_000, 1_000_000])
def test_any_rate_is_taken(rate: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.wav", drawn(50, 1, 16), 16, rate)
    assert rewritten(path, tmp_path / "part").rate == rate
    assert soundfile.info(tmp_path / "part").samplerate == rate


@pytest.mark.parametrize("kwargs", [
    {"subtype": "FLOAT"}, {"subtype": "DOUBLE"}, {"subtype": "PCM_32"}, {"subtype": "ULAW"},
    {"subtype": "PCM_16", "format": "AIFF"}, {"format": "OGG", "subtype": "VORBIS"},
])  # fmt: skip
def test_files_without_such_integers_are_refused(kwargs: dict[str, str], tmp_path: Path) -> None:
    soundfile.write(path := tmp_path / "a.wav", np.zeros(100), 16_000, **kwargs)
    with pytest.raises(DataError, match=r"a\.wav: a file of .*convert it") as error:
        measure(path)
    assert "\n" not in str(error.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.wav", drawn(500, 1, 16), 16).read_bytes()
    (tmp_path / "a.wav").write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"a\.wav: truncated"):
        measure(tmp_path / "a.wav")
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.wav: the file is empty"):
        measure(tmp_path / "b.wav")


@pytest.mark.parametrize("n", [499, 500, 501])
def test_a_file_that_changes_is_seen(n: int, tmp_path: Path) -> None:
    signal = measure(saved(tmp_path / "a.wav", drawn(500, 1, 16), 16))
    saved(tmp_path / "a.wav", drawn(n, 1, 16, seed=1), 16)
    with pytest.raises(DataError, match="changed while it was read"):
        list(read(tmp_path / "a.wav", signal, 100))


def test_what_no_file_can_be_is_told() -> None:
    good = Signal("WAV", 8000, 16, 9, bytes(8), (-5, -9), (5, 9), (0, 0), apart=False)
    assert good.fault() is None
    assert good._replace(apart=True).fault() is None
    for wrong in (
        {"rate": 0}, {"rate": 1 << 30}, {"bits": 12}, {"bits": 0}, {"n_samples": 1 << 45},
        {"n_samples": 1 << 31}, {"shifts": (16, 16)}, {"shifts": (1, 0)}, {"lows": (6, 0)},
        {"highs": (1 << 15, 0)}, {"lows": (-5, -(1 << 16) - 1)},
        {"container": "FLAC", "n_samples": 0}, {"container": "FLAC", "rate": 700_000},
        {"lows": (0,) * 65, "highs": (0,) * 65, "shifts": (0,) * 65},
        {"lows": (), "highs": (), "shifts": ()},
        {"lows": (0,), "highs": (0,), "shifts": (0,)},
        {"lows": (-5, -(1 << 15) - 1), "apart": True},
    ):  # fmt: skip
        assert good._replace(**wrong).fault(), wrong  # type: ignore[arg-type]


def test_a_disk_without_room_is_told(tmp_path: Path) -> None:
    signal = measure(saved(tmp_path / "a.wav", drawn(50, 1, 16), 16))
    with pytest.raises(DataError, match=r"gone/part: cannot be written"):
        channels.Writer(tmp_path / "gone" / "part", signal)
