"""Marker files as text are read as they are written, or refused with the line of the fault."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from motion_formats import trc

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.trc import read_trc


def test_places_gaps_and_names_are_those_written(cloud: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.trc").write_text(trc(cloud))
    found = read_trc(tmp_path / "a.trc")
    np.testing.assert_allclose(found.points, cloud, atol=1e-6)
    assert (found.names, found.fps, found.unit) == (["M0", "M1", "M2", "M3"], 60.0, "mm")


DIALECTS: dict[str, Callable[[str], str]] = {
    "no line of axes": lambda t: "\n".join(x for x in t.split("\n") if "X1" not in x),
    "no empty line": lambda t: t.replace("\n\n", "\n"),
    "CRLF": lambda t: t.replace("\n", "\r\n"),
    "UTF-8 with a mark": lambda t: "\ufeff" + t,
    "tabs at the end": lambda t: t.replace("\n", "\t\n"),
    "no tabs at the end": lambda t: "\n".join(line.rstrip("\t") for line in t.split("\n")),
    "NaN": lambda t: t.replace("\t\t\t\t", "\tNaN\tNaN\tNaN\t"),
    "no end of the last line": lambda t: t.rstrip("\n"),
    "a blank in Frame #": lambda t: t.replace("Frame#", "Frame #"),
    "units in capitals": lambda t: t.replace("\tmm\t", "\tMM\t"),
    "units in brackets": lambda t: t.replace("\tmm\t", "\t(mm)\t"),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_dialects_are_read(dialect: str, cloud: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.trc").write_text(DIALECTS[dialect](trc(cloud)), newline="")
    found = read_trc(tmp_path / "a.trc")
    np.testing.assert_allclose(found.points, cloud, atol=1e-6)
    assert (found.names[3], found.unit) == ("M3", "mm")


def test_blanks_between_words_will_do_where_nothing_is_missing(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(20, 3, 3))
    (tmp_path / "a.trc").write_text("\n".join(" ".join(x.split()) for x in trc(points).split("\n")))
    np.testing.assert_allclose(read_trc(tmp_path / "a.trc").points, points, atol=1e-6)
    blank = (tmp_path / "a.trc").read_text().replace("Frame#", "Frame #")
    (tmp_path / "a.trc").write_text(blank)
    assert read_trc(tmp_path / "a.trc").names == ["M0", "M1", "M2"]


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda t: "", "not a TRC file"),
    "head only": (lambda t: "\n".join(t.split("\n")[:5]) + "\n", "0 frames where 300"),
    "cut in a line": (lambda t: t[:-20], "truncated file"),
    "cut in the last number": (lambda t: t[:-3], "shorter than the numbers above"),
    "cut after a marker": (lambda t: t.rstrip("\n").rsplit("\t", 3)[0], "truncated file"),
    "cut between lines": (lambda t: "\n".join(t.split("\n")[:200]) + "\n", "194 frames where 300"),
    "a word": (lambda t: t.replace("\n7\t", "\nx\t"), "line 13: 'x' is not a finite"),
    "infinite": (lambda t: t.replace("\n7\t", "\n1e999\t"), "line 13: '1e999' is not"),
    "a number too many": (lambda t: t.replace("\n7\t", "\n7\t7\t"), "line 13: 15 numbers where 14"),
    "no rate": (lambda t: t.replace("\n60.00\t", "\nfast\t"), "DataRate is 'fast'"),
    "another rate": (lambda t: t.replace("\n60.00\t", "\n100\t"), "Time goes on by 0.01667 a row"),
    "names missing": (lambda t: t.replace("\tM2", ""), "3 names of 4 markers"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_named(fault: str, cloud: np.ndarray, tmp_path: Path) -> None:
    damage, match = FAULTS[fault]
    (tmp_path / "a.trc").write_text(damage(trc(cloud)))
    with pytest.raises(DataError, match=rf"a\.trc.*{match}") as caught:
        read_trc(tmp_path / "a.trc")
    assert "\n" not in str(caught.value)


def test_a_frame_more_or_fewer_is_said(cloud: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.trc").write_text(trc(cloud).replace("\t300\t", "\t302\t", 1))
    with pytest.warns(UserWarning, match=r"a\.trc: 302 frames are declared: the 300"):
        assert len(read_trc(tmp_path / "a.trc").points) == 300


def test_markers_of_one_name_are_told_apart_and_played(cloud: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "a.trc").write_text(trc(cloud).replace("M3", "M0"))
    how = {"window": 16, "min_piece": 20, "cache_dir": str(tmp_path / "cache")}
    data = MocapDataModule(str(tmp_path / "a.trc"), **how)  # type: ignore[arg-type]
    assert data.layout["markers"] == ["M0", "M1", "M2", "M0_2"]
    assert (data.layout["up"], data.layout["unit"]) == ("y", "mm")
    paths = data.render(data.sequences("test")[0].frames, tmp_path / "out" / "m")
    assert [path.suffix for path in paths if path.suffix != ".mp4"] == [".npz", ".gif", ".html"]
