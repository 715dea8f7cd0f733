"""``compress`` and ``decompress``: files that come back, and what is said of those that cannot."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from stand_in_coder import CODEC, StandIn
from toy import refused

from rnade_lightning.__main__ import main
from rnade_lightning.coding import commands
from rnade_lightning.coding.container import BLOCK, Codec, Stream

RATE = 8000


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str | None]:
    """Put the stand-in in place of the coder, and return the checkpoints that were asked for."""
    found: list[str | None] = []

    def load(ckpt_path: str | None) -> Codec:
        found.append(ckpt_path)
        return CODEC if ckpt_path is None else Codec(StandIn, b"another model...")

    monkeypatch.setattr(commands, "load_codec", load)
    monkeypatch.chdir(tmp_path)
    return found


def sound(name: str, n: int = 3000, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    """Write a file of 16 bits."""
    rng = np.random.default_rng(seed)
    samples = np.cumsum(rng.integers(-20, 21, (n, n_channels)), axis=0).astype(np.int16)
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(name, samples, RATE, "PCM_16")
    return samples


def same(name: str, samples: np.ndarray) -> bool:
    found, rate = soundfile.read(name, dtype="int16", always_2d=True)
    return rate == RATE and np.array_equal(found, samples)


def names(folder: str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def test_files_come_back(capsys: pytest.CaptureFixture[str], asked: list[str | None]) -> None:
    one, two = sound("one.wav"), sound("in/two.flac", 40_000, 2)
    three = sound("in/deep/three.WAV", 1, 3)
    main(["compress", "one.wav", "in", "--out", "packed"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].split("  ")[0].strip() == "file"
    assert [line.split()[:2] for line in printed[1:]] == [
        ["one.wav", "3000"], ["in/deep/three.WAV", "1"], ["in/two.flac", "40000"], ["all", "43001"],
    ]  # fmt: skip
    assert names("packed") == ["deep/three.WAV.rnade", "one.wav.rnade", "two.flac.rnade"]
    main(["decompress", "--out=back", "packed"])
    assert names("back") == ["deep/three.WAV", "one.wav", "two.flac"]
    assert same("back/one.wav", one)
    assert same("back/two.flac", two)
    assert same("back/deep/three.WAV", three)
    assert asked == [None, None]


def test_the_table_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    sound("a.wav", 16_000, 2)
    main(["compress", "a.wav", "--out", "out"])
    *_, line = capsys.readouterr().out.splitlines()
    n_bytes = Path("out/a.wav.rnade").stat().st_size
    name, n, bits, ratio, seconds, _ = line.split()
    assert (name, n, seconds) == ("a.wav", "16000", "2.00")
    assert float(bits) == pytest.approx(8 * n_bytes / 32_000, abs=1e-3)
    assert float(ratio) == pytest.approx(n_bytes / 64_000, abs=1e-4)


def test_a_file_without_samples_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = sound("a.wav", 0)
    main(["compress", "a.wav", "--out", "out"])
    main(["decompress", "out", "--out", "back"])
    assert same("back/a.wav", nothing)
    assert capsys.readouterr().out.split("\n")[1].split()[1:5] == ["0", "-", "-", "0.00"]


def test_globs_options_and_odd_names_are_taken() -> None:
    odd = 'a "b", [1]=é.wav'
    sound(odd)
    sound("c.wav")
    main(["compress", "--files=*.wav", "--out=one"])
    main(["compress", "*.wav", "--out", "two"])
    main(["compress", "--out", "three", "--", odd, "c.wav", "c.wav"])
    for folder in ("one", "two", "three"):
        assert names(folder) == sorted([f"{odd}.rnade", "c.wav.rnade"])


def test_a_stream_of_another_name_gets_its_ending() -> None:
    samples = sound("a.flac")
    main(["compress", "a.flac", "--out", "out"])
    Path("out/a.flac.rnade").rename("out/song.rnade")
    main(["decompress", "out", "--out", "back"])
    assert same("back/song.flac", samples)


def test_one_bad_file_does_not_lose_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    sound("in/a.wav")
    soundfile.write("in/b.wav", np.zeros(10), RATE, "FLOAT")
    sound("in/c.wav")
    with pytest.raises(SystemExit) as error:
        main(["compress", "in", "gone", "--out", "out"])
    assert error.value.code == 1
    said = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in said.err.splitlines()[:2]] == [
        "in/b.wav",
        "gone",
    ]
    assert "compress: 2 of 4 failed" in said.err
    assert "in/c.wav" in said.out
    assert names("out") == ["a.wav.rnade", "c.wav.rnade"]


def test_two_files_of_one_name_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    sound("a/x.wav")
    sound("b/x.wav", seed=1)
    line = refused(capsys, "compress", "a/x.wav", "b/x.wav", "--out", "out")
    assert "b/x.wav: would be written to out/x.wav.rnade, as a/x.wav is" in line
    main(["compress", ".", "--out", "out2"])
    assert names("out2") == ["a/x.wav.rnade", "b/x.wav.rnade"]


@pytest.mark.parametrize("kept", [0, BLOCK, 2 * BLOCK])
def test_a_cut_stream_gives_what_it_has(kept: int, capsys: pytest.CaptureFixture[str]) -> None:
    samples = sound("a.wav", 40_000)
    main(["compress", "a.wav", "--out", "out"])
    path = Path("out/a.wav.rnade")
    whole = path.read_bytes()
    _cut(path, whole, kept)
    line = refused(capsys, "decompress", "out", "--out", "back")
    lost = (40_000 - kept) / RATE
    if not kept:
        assert f"is cut: nothing of it is saved, {lost:.2f} s are lost: get the whole" in line
        assert not Path("back").exists()
        return
    told = f"{kept / RATE:.2f} s are saved as back/a.wav, {lost:.2f} s are lost"
    assert told in line
    assert same("back/a.wav", samples[:kept])
    path.write_bytes(whole)
    assert "holds something else" in refused(capsys, "decompress", "out", "--out", "back")
    assert same("back/a.wav", samples[:kept])


def _cut(path: Path, whole: bytes, kept: int) -> None:
    """Cut a stream inside the block that follows so many samples."""
    with path.open("rb") as file:
        start = Stream(file, path)._start
    for _ in range(kept // BLOCK):
        start += 10 + int.from_bytes(whole[start : start + 4], "little")
    path.write_bytes(whole[: start + 100])


def test_damage_is_told_and_nothing_wrong_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    samples = sound("a.wav", 20_000)
    main(["compress", "a.wav", "--out", "out"])
    path = Path("out/a.wav.rnade")
    whole = path.read_bytes()
    path.write_bytes(whole[:-9] + b"x" + whole[-8:])
    assert "is damaged: 2.05 s are saved" in refused(capsys, "decompress", "out", "--out", "back")
    assert same("back/a.wav", samples[:BLOCK])
    for data, said in (
        (whole + b"x", "behind its end"), (whole[:30], "header is cut"), (b"RIFF", "not a stream"),
        (whole[:6] + b"\x07" + whole[7:], "version 7"), (whole[:9] + b"x" + whole[10:], "damaged"),
    ):  # fmt: skip
        path.write_bytes(data)
        assert said in refused(capsys, "decompress", "out", "--out", "none")
    path.write_bytes(whole)
    line = refused(capsys, "decompress", "out", "--out", "none", "--ckpt_path", "other.ckpt")
    assert "made with another model" in line
    assert names("none") == []


def test_a_wrong_sum_of_the_whole_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound("a.wav")
    main(["compress", "a.wav", "--out", "out"])
    monkeypatch.setattr(commands.channels.Checksum, "digest", lambda self: bytes(16))
    line = refused(capsys, "decompress", "out", "--out", "back")
    assert "not those of its checksum" in line
    assert names("back") == []


def test_no_other_file_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    samples, before = sound("a.wav"), Path("a.wav").read_bytes()
    main(["compress", "a.wav", "--out", "."])
    main(["compress", "a.wav", "--out", "."])
    main(["decompress", "a.wav.rnade", "--out", "."])  # stays as it is
    assert Path("a.wav").read_bytes() == before
    sound("a.wav", seed=1)
    changed = Path("a.wav").read_bytes(), Path("a.wav.rnade").read_bytes()
    for command, name in (("compress", "a.wav"), ("decompress", "a.wav.rnade")):
        line = refused(capsys, command, name, "--out", ".")
        assert "is there already and holds something else" in line
    assert (Path("a.wav").read_bytes(), Path("a.wav.rnade").read_bytes()) == changed
    main(["decompress", "a.wav.rnade", "--out", "back"])
    assert same("back/a.wav", samples)


def test_a_cut_stream_does_not_replace_a_whole_file(capsys: pytest.CaptureFixture[str]) -> None:
    samples = sound("a.wav", 40_000)
    main(["compress", "a.wav", "--out", "out"])
    path = Path("out/a.wav.rnade")
    _cut(path, path.read_bytes(), BLOCK)
    line = refused(capsys, "decompress", "out", "--out", ".")
    assert "a.wav holds the whole of its sound already" in line
    assert same("a.wav", samples)


def test_nothing_is_left_of_what_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    sound("a.wav", 40_000)
    main(["compress", "a.wav", "--out", "out"])

    def stop(*_: object) -> bytes:
        raise KeyboardInterrupt

    for verb, command in (("encode", "compress"), ("decode", "decompress")):
        monkeypatch.setattr(StandIn, verb, stop)
        files = "a.wav" if verb == "encode" else "out"
        with pytest.raises(KeyboardInterrupt):
            main([command, files, "--out", f"{verb}d"])
        assert names(f"{verb}d") == []


def test_options_are_looked_at(capsys: pytest.CaptureFixture[str]) -> None:
    sound("a.wav")
    Path("file").write_text("")
    for argv, said in (
        (["a.wav"], "out"), (["--out", "x"], "files"), (["a.wav", "--ouk", "x"], "--ouk"),
        (["a.wav", "--files=b.wav", "--out=x"], "not both"),
        (["a.wav", "--out=file"], "--out file: is a file"),
        (["a.mp3", "--out=x"], "a.mp3: no such file"), (["file", "--out=x"], ".wav or .flac"),
    ):  # fmt: skip
        assert said in refused(capsys, "compress", *argv)
    assert "did you mean compress?" in refused(capsys, "compres", "a.wav")


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_help_names_the_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    page = capsys.readouterr().out
    assert f"{command} FILES --out FOLDER [--ckpt_path" in page
    assert all(word in page for word in ("--files", "--out", "--ckpt_path"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_sound() -> None:
    n = 1 << 21
    sound("a.wav", n)
    main(["compress", "a.wav", "--out", "warm"])
    peaks = []
    for argv in (["compress", "a.wav", "--out=x"], ["decompress", "x", "--out=y"]):
        tracemalloc.start()
        main(argv)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert max(peaks) < 8 * n / 2  # half of the samples as integers
