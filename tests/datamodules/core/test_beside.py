"""Labels and signals are found beside files, or refused in one line."""

from pathlib import Path

import numpy as np
import pytest

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.beside import Labels, beside, columns_of, read_control

ENDS = (".bvh", ".bvh.gz")


def test_labels_stand_in_the_path_or_the_folder() -> None:
    labels = Labels(r"(?P<action>walk-left|walk)_(?P<style>[a-z]+)")
    assert labels.names == ["action", "style"]
    path = Path("/data/walk-left_old_001.bvh.gz")
    assert labels.of(path, ENDS) == {"action": "walk-left", "style": "old"}
    assert labels.of(Path("/data/other.bvh"), ENDS) == {}
    assert Labels("parent").of(Path("/data/runs/7.bvh"), ENDS) == {"folder": "runs"}


@pytest.mark.parametrize("name", ["a/7_1", "7_1", "7_1.bvh.gz"])
def test_labels_stand_in_a_table(name: str, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f"take,action,who\n{name},run,\nother,walk,x\n")
    labels = Labels(str(table))
    assert labels.names == ["action", "who"]
    assert labels.of(tmp_path / "a" / "7_1.bvh.gz", ENDS) == {"action": "run"}
    assert labels.of(tmp_path / "a" / "17_1.bvh.gz", ENDS) == {}
    assert Labels("labels.csv", tmp_path).names == labels.names  # among the files


@pytest.mark.parametrize("between", [";", "\t"])
def test_a_table_tells_itself_what_stands_between_its_cells(between: str, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(f'file{between}act\n7_1{between}"walk, slow"\n')
    assert Labels(str(table)).of(tmp_path / "7_1.bvh", ENDS) == {"act": "walk, slow"}


def test_a_file_that_a_table_labels_twice_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,act\na/1,run\na/1.bvh,walk\nb/1.bvh,run\n1,walk\n")
    labels = Labels(str(table))
    with pytest.raises(DataError, match=r"twice, differently, as a/1\.bvh and a/1"):
        labels.of(tmp_path / "a" / "1.bvh", ENDS)
    assert labels.of(tmp_path / "b" / "1.bvh", ENDS) == {"act": "run"}  # the longest part counts
    assert labels.of(tmp_path / "c" / "1.bvh", ENDS) == {"act": "walk"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("who,action\na,run\n", "names no column file"),
        ("file,action\na,run,x\n", "line 2: 3 cells where 2 are named"),
        ("file,action\na,run\na,walk\n", "line 3: a is labelled twice, differently"),
        ("file,act,act\na,run,walk\n", "two columns are called 'act'"),
        ("", "names no column file"),
    ],
)
def test_damaged_tables_are_refused(text: str, said: str, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=said):
        Labels(str(table))


@pytest.mark.parametrize("where", ["(walk", "walk", "no_such.csv"])
def test_what_is_no_place_of_labels_is_refused(where: str) -> None:
    with pytest.raises(DataError, match=r"labels|no_such\.csv"):
        Labels(where)


def test_signals_are_taken_at_the_times_of_frames(tmp_path: Path) -> None:
    table = tmp_path / "f.csv"
    t = np.linspace(0, 2, 201)
    rows = np.column_stack([t, 3 * t, 1 - t])
    np.savetxt(table, rows, "%.6f", ",", header="seconds,left,right", comments="")
    found, names = read_control(table, 40, 20.0)
    assert names == ["left", "right"]
    at = np.arange(40) / 20
    np.testing.assert_allclose(found, np.column_stack([3 * at, 1 - at]), atol=1e-6)
    assert len(read_control(table, None, 20.0)[0]) == 41
    with pytest.raises(DataError, match=r"lasts from 0 to 2 s, its frames to 3\.95 s"):
        read_control(table, 80, 20.0)
    late = rows[[*range(0, 101, 10), 200]]  # a gap does not make the others wider
    for part in (late[:-1], np.delete(rows, range(1, 100), 0)[1:]):
        np.savetxt(table, part, "%.6f", ",", header="seconds,left,right", comments="")
        with pytest.raises(DataError, match="give signals of all of it"):
            read_control(table, 40, 20.0)
    np.savetxt(table, rows[:40, 1:], "%.6f", ",", header="left,right", comments="")
    assert len(read_control(table, 40, 20.0)[0]) == 40
    with pytest.raises(DataError, match="40 lines for 41 frames"):
        read_control(table, 41, 20.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.0,1.5\n1.0,2.5\n", "names no signal"),
        ("seconds,f\n0.0,nan\n1.0,1.0\n", "not finite"),
        ("seconds,f\n1.0,1.0\n0.0,1.0\n", "does not grow"),
    ],
)
def test_damaged_signals_are_refused(text: str, said: str, tmp_path: Path) -> None:
    table = tmp_path / "f.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=said):
        read_control(table, 2, 1.0)


def test_patterns_name_features_and_second_files() -> None:
    assert columns_of(["root.turn", "a.x", "root.left"], ["root.*", "a.x"]) == [0, 1, 2]
    with pytest.raises(DataError, match=r"control 'foot\.\*' names no feature of root.turn, a.x"):
        columns_of(["root.turn", "a.x"], ["foot.*"])
    path = Path("/data/walks/7_1.bvh.gz")
    assert beside("{name}.csv", path, ENDS) == Path("/data/walks/7_1.csv")
    assert beside("../f/{name}_f.csv", path, ENDS) == Path("/data/walks/../f/7_1_f.csv")
