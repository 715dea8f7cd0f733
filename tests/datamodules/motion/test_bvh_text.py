"""BVH is read as programs write it: the same motion, whatever the letters and the layout."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from damaged import text

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.motion.bvh import read_bvh
from rnade_lightning.datamodules.motion.bvh_text import frame_rate, read_text

DIALECTS: dict[str, Callable[[str], str]] = {
    "lower case": str.lower,
    "upper case": str.upper,
    "capitals": lambda t: re.sub(r"[A-Z]{3,}", lambda m: m[0].capitalize(), t),
    "XPosition": lambda t: t.replace("position", "Position"),
    "comments": lambda t: "# made by hand\n// twice\n" + t.replace("0 -4 0\nC", "0 -4 0 # down\nC"),
    "a comment beside a bracket": lambda t: t.replace("{\n", "{# begins\n").replace("}\n", "}//\n"),
    "a comment beside a name": lambda t: t.replace("JOINT Leg", "JOINT Leg // left"),
    "CHANNELS beside OFFSET": lambda t: t.replace("0\nCHANNELS", "0 CHANNELS"),
    "CHANNELS before OFFSET": lambda t: re.sub(r"(OFFSET.*\n)(CHANNELS.*\n)", r"\2\1", t),
    "brackets beside names": lambda t: t.replace("\n{", " {"),
    "EndSite": lambda t: t.replace("End Site", "EndSite"),
    "Frame time": lambda t: t.replace("Frame Time: ", "Frame time:").replace("s: 60", "s:60"),
    "tabs and blank lines": lambda t: t.replace("\n", "\n\n").replace(" -", "\t-"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.bvh"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_the_same_motion(dialect: str, path: Path) -> None:
    path.write_text(text())
    expected = read_bvh(path).points()
    path.write_text(DIALECTS[dialect](text()))
    assert DIALECTS[dialect](text()) != text()
    np.testing.assert_array_equal(read_bvh(path).points(), expected)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"]
)
def test_encodings_are_the_same_names(encoding: str, path: Path) -> None:
    path.write_bytes(text().replace("Leg", "Fuß").encode(encoding))
    assert read_text(path).names == ["Hips", "Fuß"]


@pytest.mark.parametrize("n", [12, 15, 24, 25, 30, 48, 50, 60, 72, 90, 100, 120, 144, 200, 240])
@pytest.mark.parametrize("n_digits", [4, 5, 6, 7, 9, 12])
def test_rounded_frame_times_are_the_usual_rates(n: int, n_digits: int) -> None:
    word = f"{1 / n:.{n_digits}f}"
    assert frame_rate(Path("a.bvh"), word) == n
    assert frame_rate(Path("a.bvh"), word + "000") == n


@pytest.mark.parametrize(
    ("word", "rate"),
    [
        ("0.033", 30),
        ("0.067", 15),
        ("0.017", 60),
        ("0.0166", 60),
        ("0.02", 50),
        ("0.008333", 120),
        (".04", 25),
        ("1e-2", 100),
        ("0.033366700", 30 / 1.001),
        ("0.0234567", 1 / 0.0234567),
    ],
)
def test_frame_times_mean_what_they_say(word: str, rate: float) -> None:
    assert frame_rate(Path("a.bvh"), word) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("declared", [58, 63])
def test_a_few_frames_more_or_fewer_are_read_and_said(declared: int, path: Path) -> None:
    path.write_text(text().replace("Frames: 60", f"Frames: {declared}"))
    with pytest.warns(UserWarning, match=rf"a\.bvh: {declared} frames are declared: the 60"):
        assert len(read_text(path).values) == 60
    whole, _, last = text().replace("Frames: 60", "Frames: 63")[:-1].rpartition(" ")
    path.write_text(f"{whole} {float(last):g}5")  # no number that was cut would be seen
    with pytest.raises(DataError, match="60 frames where 63"):
        read_text(path)


def test_numbers_that_belong_to_another_row_are_seen(path: Path) -> None:
    lines = text().split("\n")
    lines[20], moved = lines[20].rsplit(" ", 1)
    path.write_text("\n".join([*lines[:21], f"{moved} {lines[21]}", *lines[22:]]))
    with pytest.raises(DataError, match="line 21: 8 numbers for 9 channels"):
        read_text(path)


@pytest.mark.parametrize("form", ["%.6f", "%.4e", "%d", "%.9g"])
def test_a_last_line_without_an_end_is_read_where_it_is_whole(form: str, path: Path) -> None:
    rows = 100 * np.random.default_rng(0).normal(size=(60, 9)) + 1000
    rows[-1, -1] = 1234.567891
    head = text(0).rstrip("\n")
    whole = "\n".join([head, *(" ".join(form % x for x in row) for row in rows)])
    path.write_text(whole)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(read_text(path).values) == 60
    for n_lost in (1, 2, 3) if form != "%d" else ():
        path.write_text(whole[:-n_lost])
        if form != "%.9g" or n_lost == 3:
            with pytest.raises(DataError, match=r"a\.bvh, line 78: "):
                read_text(path)


@pytest.mark.parametrize("blank", ["\x1c", "\x1f", "\x85", "\xa0", "\u3000"])
def test_blanks_of_any_kind_part_numbers(blank: str, path: Path) -> None:
    path.write_text(text(), encoding="utf-8")
    expected = read_text(path).values
    head, rows = text().rsplit("Time: 0.0333333\n", 1)
    path.write_text(f"{head}Time: 0.0333333\n{rows.replace(' ', blank, 5)}", encoding="utf-8")
    np.testing.assert_array_equal(read_text(path).values, expected)
