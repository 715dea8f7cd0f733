"""The files that a root names."""

import os
from pathlib import Path

import pytest

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core import files
from rnade_lightning.datamodules.core.files import files_beside, find_files, name_of, names_of


@pytest.fixture
def closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three takes, two of them in a subfolder that cannot be listed."""
    for name in ("a.bvh", "closed/b.bvh", "closed/deep/c.bvh"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    scandir = os.scandir

    def refusing(path: str) -> object:  # whoever runs the test: root may list all folders
        if Path(path).name == "closed":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(files.os, "scandir", refusing)
    return tmp_path


@pytest.mark.parametrize("root", ["", "**/*.bvh", "*/*.bvh", "**", "**/c.bvh"])
def test_a_folder_that_cannot_be_listed_is_an_error(closed: Path, root: str) -> None:
    with pytest.raises(DataError, match=r"closed: cannot be read .Permission denied.: make it"):
        find_files(closed / root, (".bvh",))


@pytest.mark.parametrize(("root", "name"), [("*.bvh", "a"), ("clo*/deep/c.bvh", "closed/deep/c")])
def test_a_glob_that_does_not_look_into_it_is_read(closed: Path, root: str, name: str) -> None:
    assert find_files(closed / root, (".bvh",)) == [closed / f"{name}.bvh"]


def test_a_folder_of_companions_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: cannot be read"):
        files_beside(tmp_path / "gone" / "a.amc", (".asf",))
    assert files_beside(tmp_path / "gone" / "a.amc", ()) == []


@pytest.mark.parametrize("root", [".", "", "below/.."])
def test_names_below_the_current_folder_have_their_folders(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("below/a.bvh", "below/deep/a.bvh"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).touch()
    found = [name_of(path, root, (".bvh",)) for path in find_files(root, (".bvh",))]
    assert found == ["below/a", "below/deep/a"]


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("*/*.bvh", ["run/0", "walk/0"]),
        ("**/*.bvh", ["run/0", "walk/0"]),
        ("walk/*.bvh", ["0"]),
        ("r*/0.bvh", ["run/0"]),
        ("walk/0.bvh", ["0"]),
    ],
)
def test_files_of_a_glob_are_named_by_their_folders_too(
    root: str, expected: list[str], tmp_path: Path
) -> None:
    where = str(touched(tmp_path, "walk/0.bvh", "run/0.bvh") / root)
    found = names_of(find_files(where, (".bvh",)), where, (".bvh",))
    assert list(found.values()) == expected


def test_no_two_files_share_a_name(tmp_path: Path) -> None:
    """Though their endings alone tell them apart, or a table names files of several folders."""
    endings = (".npy", ".csv")
    files = find_files(touched(tmp_path, "a/0.npy", "a/0.csv", "a/1.npy", "b/2.npy"), endings)
    found = names_of(files, tmp_path, endings)
    assert list(found.values()) == ["a/0.csv", "a/0.npy", "a/1", "b/2"]
    paths = [tmp_path / "a" / "0.npy", tmp_path / "b" / "0.npy"]
    assert list(names_of(paths, tmp_path / "table.csv", endings).values()) == ["a/0.npy", "b/0.npy"]


def test_folders_behind_links_are_read_once_and_loops_end(tmp_path: Path) -> None:
    folder = touched(tmp_path / "data", "0.bvh", "deep/1.bvh")
    touched(tmp_path / "other", "2.bvh")
    (folder / "link").symlink_to(tmp_path / "other")
    (folder / "deep" / "up").symlink_to(folder)
    found = [path.relative_to(folder).as_posix() for path in find_files(folder, (".bvh",))]
    assert found == ["0.bvh", "deep/1.bvh", "link/2.bvh"]
