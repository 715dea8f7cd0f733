"""Reading sound files: every format alike, and damage refused in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzz import outcome
from sounds import RATE, audio_module, strongest, tone

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.sound.soundfiles import EXTENSIONS, SoundFile, read_sound


@pytest.mark.parametrize(
    "ending", [".wav", ".flac", ".ogg", ".mp3", ".aiff", ".au", ".caf", ".w64"]
)
def test_every_format_gives_the_same_sound(tmp_path: Path, ending: str) -> None:
    assert ending in EXTENSIONS
    sound = read_sound(tone(tmp_path / f"a{ending}", n=RATE))
    assert sound.rate == RATE
    assert sound.samples.shape == (RATE, 1)
    assert strongest(sound.samples[:, 0], RATE) == pytest.approx(440, abs=2)
    assert sound.bits == (None if ending in (".ogg", ".mp3") else 16)


BAD: dict[str, tuple[str, Callable[[bytes], bytes], str]] = {
    "empty": (".wav", lambda b: b"", "the file is empty"),
    "text": (".wav", lambda b: b"hello, this is no sound at all", "cannot be read .*ormat not rec"),
    "header only": (".wav", lambda b: b[:30], "cannot be read|no samples|truncated"),
    "no samples": (".wav", lambda b: b[:40] + bytes(4), "no samples|truncated"),
    "short wav": (".wav", lambda b: b[:-1000], r"truncated: \d+ bytes of \d+"),
    "short aiff": (".aiff", lambda b: b[:-1000], r"truncated: \d+ bytes of \d+"),
    "short au": (".au", lambda b: b[:-1000], r"truncated: \d+ bytes of \d+"),
    "short w64": (".w64", lambda b: b[:-1000], r"truncated: \d+ bytes of \d+"),
    "short caf": (".caf", lambda b: b[:-1000], "cannot be read|truncated"),
    "short flac": (".flac", lambda b: b[: len(b) * 2 // 3], "cannot be read after sample 0|cannot"),
    "short ogg": (".ogg", lambda b: b[: len(b) * 2 // 3], "truncated|no samples"),
    "short mp3": (".mp3", lambda b: b[: len(b) * 2 // 3], r"truncated: \d+ samples of 16000"),
    "flipped flac": (
        ".flac",
        lambda b: b[: len(b) // 2] + bytes([b[len(b) // 2] ^ 0x55]) + b[len(b) // 2 + 1 :],
        "cannot be read",
    ),
    "rate 0": (".wav", lambda b: b[:24] + bytes(4) + b[28:], "samples a second|cannot be read"),
    "rate huge": (".wav", lambda b: b[:24] + b"\xff\xff\xff\x7f" + b[28:], "samples a second"),
}


@pytest.mark.parametrize("fault", BAD)
def test_a_damaged_file_is_named(tmp_path: Path, fault: str) -> None:
    ending, damage, match = BAD[fault]
    path = tmp_path / f"bad{ending}"
    t = np.arange(RATE) / RATE
    noisy = 0.2 * np.sin(2000 * t) + 0.02 * np.random.default_rng(0).normal(size=RATE)
    soundfile.write(path, noisy, RATE)
    read_sound(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=match) as caught:
        audio_module(path, split="tail").setup()
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_any_cut_of_a_file_is_refused(tmp_path: Path) -> None:
    for ending in (".wav", ".flac", ".ogg", ".mp3"):
        whole = tone(tmp_path / f"whole{ending}", n=RATE).read_bytes()
        for n in np.linspace(0, len(whole) - 9, 25).astype(int):
            path = tmp_path / f"cut{ending}"
            path.write_bytes(whole[:n])
            with pytest.raises(DataError, match=r"cut\."):
                read_sound(path)


def test_a_recording_of_a_pipe_may_leave_its_length_open(tmp_path: Path) -> None:
    content = bytearray(tone(tmp_path / "a.wav").read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_sound(tmp_path / "a.wav").samples) == 8000


def test_a_length_that_counts_its_own_header_is_no_cut(tmp_path: Path) -> None:
    content = bytearray(tone(tmp_path / "a.wav").read_bytes())
    content[4:8] = len(content).to_bytes(4, "little")  # eight bytes too many
    (tmp_path / "a.wav").write_bytes(content)
    assert len(read_sound(tmp_path / "a.wav").samples) == 8000


def riff(*chunks: tuple[bytes, bytes], padded: bool = True) -> bytes:
    """Return a WAV file of these chunks; odd ones with a byte behind them if they are padded."""
    content = b"WAVE"
    for name, data in chunks:
        pad = bytes(padded and len(data) % 2)
        content += name + len(data).to_bytes(4, "little") + data + pad
    return b"RIFF" + len(content).to_bytes(4, "little") + content


@pytest.mark.parametrize(
    "tag",
    [b"TAG" + b"title".ljust(125), b"ID3\3\0\0\0\0\0\x0aTIT2abcdefg", b"APETAGEX" + bytes(24)],
)
def test_a_tag_behind_a_whole_file_is_passed_over(tag: bytes, tmp_path: Path) -> None:
    path = tone(tmp_path / "a.wav")
    whole, expected = path.read_bytes(), read_sound(path).samples
    path.write_bytes(whole + tag)
    np.testing.assert_array_equal(read_sound(path).samples, expected)
    for content in (whole[:-100] + tag, whole + bytes(range(200))):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"a\.wav: (truncated|damaged)"):
            read_sound(path)


@pytest.mark.parametrize("padded", [True, False])
def test_an_odd_number_of_bytes_may_stand_without_the_one_that_pads(
    padded: bool, tmp_path: Path
) -> None:
    samples = np.random.default_rng(0).integers(0, 256, 4001).astype(np.uint8)
    form = bytes.fromhex("01000100803e0000803e000001000800")  # 8 bits, 16 kHz
    behind = b"LIST", b"INFOISFT\4\0\0\0Lavf"
    content = riff((b"fmt ", form), (b"data", samples.tobytes()), behind, padded=padded)
    (tmp_path / "a.wav").write_bytes(content)
    found = read_sound(tmp_path / "a.wav").samples[:, 0]
    np.testing.assert_array_equal(found * 128 + 128, samples)
    for n_lost in (30, 2000):
        (tmp_path / "a.wav").write_bytes(content[:-n_lost])
        with pytest.raises(DataError, match=r"a\.wav: "):
            read_sound(tmp_path / "a.wav")


def test_lengths_that_were_left_open_are_read_or_named(tmp_path: Path) -> None:
    """As ffmpeg leaves them in a pipe."""
    path = tone(tmp_path / "a.w64")
    content, expected = bytearray(path.read_bytes()), read_sound(path).samples
    at = content.index(b"data\xf3\xac") + 16
    content[16:24], content[at : at + 8] = b"\xff" * 8, b"\xff" * 7 + b"\x7f"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_sound(path).samples, expected)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"a\.w64: "):
        read_sound(path)
    path = tone(tmp_path / "a.aiff")
    content = bytearray(path.read_bytes())
    common, sound = content.index(b"COMM"), content.index(b"SSND")
    content[4:8] = content[common + 10 : common + 14] = content[sound + 4 : sound + 8] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"a\.aiff: its header tells lengths of 0, .* encode it anew"
    ):
        read_sound(path)


def test_a_length_of_0_under_a_right_whole_is_not_called_empty(tmp_path: Path) -> None:
    content = bytearray(tone(tmp_path / "a.wav").read_bytes())
    content[40:44] = bytes(4)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"tells of no samples, and 16000 bytes follow"):
        read_sound(tmp_path / "a.wav")
    form = content[20:36]
    (tmp_path / "a.wav").write_bytes(riff((b"fmt ", form), (b"data", b""), (b"LIST", b"INFO")))
    with pytest.raises(DataError, match=r"holds no samples: remove the file"):
        read_sound(tmp_path / "a.wav")


@pytest.mark.parametrize("told", [0, 36])
def test_a_recording_whose_header_was_never_written_is_not_called_empty(
    told: int, tmp_path: Path
) -> None:
    content = bytearray(tone(tmp_path / "a.wav").read_bytes())
    content[4:8], content[40:44] = told.to_bytes(4, "little"), bytes(4)
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"tells of no samples, and 16000 bytes follow"):
        read_sound(tmp_path / "a.wav")
    (tmp_path / "a.wav").write_bytes(content[:44])
    with pytest.raises(DataError, match=r"holds no samples: remove the file"):
        read_sound(tmp_path / "a.wav")


def test_a_format_that_cannot_be_read_is_to_be_converted_not_got_again(tmp_path: Path) -> None:
    content = bytearray(tone(tmp_path / "a.flac").read_bytes())
    content[20:22] = bytes([content[20] & 0xFE, 0xB0 | content[21] & 0x0F])  # 12 bits a sample
    (tmp_path / "a.flac").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read \(.*\): convert it to WAV or FLAC"):
        read_sound(tmp_path / "a.flac")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_sample_that_is_no_number_is_named(tmp_path: Path, value: float) -> None:
    samples = np.zeros((8000, 2), dtype=np.float32)
    samples[1600, 1] = value
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(DataError, match=r"a\.wav: sample 1600 \(0\.100 s\), channel 1 is "):
        audio_module(tmp_path / "a.wav", split="tail").setup()


@pytest.mark.parametrize(
    ("kind", "change", "match"),
    [
        ("wav", lambda b: b[:-1], "truncated: 7999 bytes of 8000"),
        (
            "wav",
            lambda b: b[:900] + bytes(range(200, 216)) + b[900:],
            "as if bytes had been put in",
        ),
        ("rf64", lambda b: b[:900], "truncated: 892 bytes of"),
        ("nist", lambda b: b[:3000], "truncated: 988 samples of 4000"),
        ("voc", lambda b: b[:900], "not followed by what its header tells"),
        ("aiff", lambda b: b[:-1], "truncated: 8007 bytes of 8008"),
        ("aiff", lambda b: b[:21] + b"\5" + b[22:], "not followed by what its header tells"),
        (
            "aiff",
            lambda b: b[:900] + bytes(range(200, 216)) + b[900:],
            "as if bytes had been put in",
        ),
    ],
)
def test_sound_whose_parts_do_not_follow_on_each_other_is_refused(
    kind: str, change: Callable[[bytes], bytes], match: str, tmp_path: Path
) -> None:
    path = tmp_path / f"good.{kind}"
    noise = 0.1 * np.random.default_rng(0).normal(size=4000)
    soundfile.write(path, noise, 16_000, subtype="PCM_16", format=kind.upper())
    assert outcome(path, audio_module().read) == "read"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=rf"good\.{kind}: .*{match}"):
        audio_module().read(path)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "W64", "RF64"])
def test_integers_of_any_width_are_read_as_they_are(tmp_path: Path, bits: int, form: str) -> None:
    integers = np.random.default_rng(0).integers(-(2**31), 2**31, (500, 2)) >> 32 - bits
    wide = (integers << (32 - bits)).astype(np.int32)
    kind = {8: "PCM_U8"}.get(bits, f"PCM_{bits}")
    soundfile.write(tmp_path / "a.wav", wide, RATE, subtype=kind, format=form)
    sound = read_sound(tmp_path / "a.wav")
    assert sound.bits == bits
    np.testing.assert_array_equal(sound.samples * 2.0 ** (bits - 1), integers)


@pytest.mark.parametrize(
    ("form", "subtype"),
    [("WAV", "PCM_16"), ("WAVEX", "PCM_24"), ("W64", "PCM_16"), ("RF64", "PCM_16"),
     ("WAV", "FLOAT"), ("WAV", "ALAW")],
)  # fmt: skip
@pytest.mark.parametrize(("at", "size", "value"), [(4, 4, 8000), (8, 4, 12345), (12, 2, 5)])
def test_a_header_that_contradicts_itself_is_refused(
    tmp_path: Path, form: str, subtype: str, at: int, size: int, value: int
) -> None:
    """Another rate, byte rate or block than the others make."""
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros((800, 2)), RATE, subtype=subtype, format=form)
    content = bytearray(path.read_bytes())
    start = content.index(b"fmt ") + (24 if form == "W64" else 8)
    read_sound(path)
    content[start + at : start + at + size] = value.to_bytes(size, "little")
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.wav: its header contradicts itself: \d+ bytes a "):
        read_sound(path)


def test_a_block_that_is_not_the_width_of_its_samples_is_refused(tmp_path: Path) -> None:
    """Also where the byte rate agrees with it."""
    content = bytearray(tone(tmp_path / "a.wav").read_bytes())
    content[32:34], content[28:32] = (4).to_bytes(2, "little"), (4 * RATE).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=r"4 bytes a block, where 1 channels of 16 bits make 2"):
        read_sound(tmp_path / "a.wav")


def test_any_rate_and_no_samples_are_taken_where_asked_for(tmp_path: Path) -> None:
    for rate, n in ((500, 20), (2_000_000, 20), (8000, 0)):
        soundfile.write(path := tmp_path / "a.wav", np.zeros(n), rate)
        with pytest.raises(DataError, match=r"samples a second|holds no samples"):
            list(SoundFile(path).blocks())
        file = SoundFile(path, as_is=True)
        assert (file.container, file.rate, sum(map(len, file.blocks()))) == ("WAV", rate, n)


def test_flac_that_leaves_its_length_open_is_refused(tmp_path: Path) -> None:
    data = bytearray(tone(path := tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0
    data[22:42] = bytes(20)  # samples, and their sum
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"does not tell how many samples it has.*encode it anew"):
        SoundFile(path)
