"""Texts of any encoding, and names that come twice."""

import gzip
from pathlib import Path

import pytest

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.limits import Limit
from rnade_lightning.datamodules.core.texts import read_text, told_apart


@pytest.mark.parametrize("first", ["HIERARCHY", "hierarchy", "# made", "\n\tROOT"])
@pytest.mark.parametrize(
    "encoding",
    ["ascii", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be-mark"],
)
def test_an_encoding_is_told_by_the_first_bytes(first: str, encoding: str, tmp_path: Path) -> None:
    text = f"{first}\r\nsecond\rthird\n"
    data = b"\0\0\xfe\xff" + text.encode("utf-32-be") if "mark" in encoding else b""
    for name, content in (("a.bvh", data or text.encode(encoding)), ("a.bvh.gz", b"")):
        path = tmp_path / name
        path.write_bytes(content or gzip.compress(data or text.encode(encoding)))
        assert read_text(path, Limit.of(path)) == f"{first}\nsecond\nthird\n"


def test_letters_that_are_not_utf_8_are_latin(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_bytes("ROOT H\xfcfte\n".encode("latin-1"))
    assert read_text(tmp_path / "a.bvh", Limit.of(tmp_path / "a.bvh")) == "ROOT H\xfcfte\n"


@pytest.mark.parametrize("end", [b"\0\0\0", b"\x1a"])
def test_marks_after_the_end_are_left_out(end: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_bytes(b"ROOT\n1 2" + end)
    assert read_text(tmp_path / "a.bvh", Limit.of(tmp_path / "a.bvh")) == "ROOT\n1 2"


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.bvh.gz"
    path.write_bytes(gzip.compress(b"ROOT\n" * 100)[:-9])
    with pytest.raises(DataError, match=r"a\.bvh\.gz: cannot be read"):
        read_text(path, Limit.of(path))


def test_names_are_numbered_past_those_there_are() -> None:
    names = ["A", "A", "B", "A_2", "A"]
    assert told_apart(Path("a.c3d"), names, "markers") == ["A", "A_3", "B", "A_2", "A_4"]
    assert told_apart(Path("a.c3d"), ["A", "B"], "markers") == ["A", "B"]
