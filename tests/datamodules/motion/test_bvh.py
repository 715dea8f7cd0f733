"""BVH is read as it is written, or refused with the line of the fault."""

import gzip
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import published
import pytest
from bodies import BVH_TEXT, degrees_apart, tumble
from damaged import BAD, refused, text
from published import ALLOWED, check
from pymotion.io.bvh import BVH
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh
from rnade_lightning.datamodules.motion.skeleton import Motion


def test_bvh_is_read_by_channel_name(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(BVH_TEXT)
    motion = read_bvh(tmp_path / "a.bvh")
    assert motion.fps == 25
    assert motion.skeleton.names == ["Hips", "Left_Leg", "MOTION_Head"]
    assert motion.skeleton.parents == [-1, 0, 0]
    np.testing.assert_allclose(motion.positions, [[8, 9, 7], [8, 9.5, 7]])
    expected = Rotation.from_euler("YXZ", [10, 20, 30], degrees=True).as_quat()
    assert degrees_apart(motion.rotations[0, 0], expected) < 1e-6
    foot = Rotation.from_euler("XZY", [40, 50, 60], degrees=True).apply([0, -3, 0])
    foot = motion.positions[0] + Rotation.from_quat(expected).apply(np.array([1, -2, 0.5]) + foot)
    np.testing.assert_allclose(motion.points()[0, 3], foot)


def test_numbers_are_read_as_python_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["-0", "+1.", ".5", "1e-320", "4.9e-324", "1E3", "9007199254740993", "0.1e-6", "007.70"]
    words += ["123456789012345678901234567890", "2.2250738585072011e-308", "0." + 30 * "0" + "1"]
    words += [repr(float(x)) for x in rng.normal(size=500)] + [
        f"{x:.25g}" for x in rng.normal(size=100)
    ]
    words += ["0"] * (-len(words) % 3)
    joint = "HIERARCHY\nROOT A\n{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition "
    joint += "Zrotation Yrotation Xrotation\nEnd Site\n{\nOFFSET 0 1 0\n}\n}\nMOTION\n"
    rows = [" \t".join([*words[i : i + 3], "0 0 0 "]) for i in range(0, len(words), 3)]
    path = tmp_path / "a.bvh"
    path.write_text(joint + f"Frames: {len(rows)}\nFrame Time: .01\n" + "\n\n".join(rows))
    expected = np.array(list(map(float, words)))
    assert read_bvh(path).positions.tobytes() == expected.tobytes()


def test_written_bvh_is_read_alike_by_pymotion_and_here(take: Motion, tmp_path: Path) -> None:
    write_bvh(tmp_path / "take.bvh", take)
    ours = read_bvh(tmp_path / "take.bvh")
    other = BVH()
    other.load(str(tmp_path / "take.bvh"))
    rotations, positions, _, offsets, end_sites, _ = other.get_data()
    assert degrees_apart(ours.rotations, take.rotations) < 1e-4
    assert degrees_apart(np.roll(rotations, -1, axis=-1), take.rotations) < 1e-4
    np.testing.assert_allclose(positions[:, 0], take.positions, atol=1e-6)
    np.testing.assert_allclose(offsets, take.skeleton.offsets, atol=1e-5)
    np.testing.assert_allclose(end_sites, take.skeleton.end_offsets, atol=1e-5)
    assert (ours.skeleton.names, ours.skeleton.parents) == (
        take.skeleton.names,
        take.skeleton.parents,
    )
    assert ours.fps == pytest.approx(take.fps, rel=1e-6)


@pytest.mark.parametrize("unit", [1e-4, 1e-2, 1.0, 1e4])
def test_a_written_body_is_the_same_in_any_unit(take: Motion, unit: float, tmp_path: Path) -> None:
    unit /= take.skeleton.size
    scaled = take.scaled(unit)
    write_bvh(tmp_path / "a.bvh", scaled)
    found = read_bvh(tmp_path / "a.bvh")
    np.testing.assert_allclose(found.points() / unit, scaled.points() / unit, atol=1e-4)


def test_compressed_bvh_is_the_same_motion_and_the_same_bytes(take: Motion, tmp_path: Path) -> None:
    for name in ("a.bvh.gz", "b.bvh.gz", "c.bvh"):
        write_bvh(tmp_path / name, take)
    assert (tmp_path / "a.bvh.gz").read_bytes() == (tmp_path / "b.bvh.gz").read_bytes()
    assert (
        gzip.decompress((tmp_path / "a.bvh.gz").read_bytes()) == (tmp_path / "c.bvh").read_bytes()
    )


def test_a_good_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "good.bvh").write_text(text())
    MocapDataModule(str(tmp_path), window=16).setup()
    (tmp_path / "good.bvh").write_bytes(b"\xef\xbb\xbf" + text().replace("\n", "\r\n").encode())
    assert len(read_bvh(tmp_path / "good.bvh").positions) == 60


@pytest.mark.parametrize("fault", BAD)
@pytest.mark.parametrize("ending", [".bvh", ".bvh.gz"])
def test_a_damaged_bvh_is_named(fault: str, ending: str, tmp_path: Path) -> None:
    damage, match = BAD[fault]
    path = tmp_path / f"bad{ending}"
    data = damage(text()).encode()
    path.write_bytes(gzip.compress(data) if ending == ".bvh.gz" else data)
    refused(path, match)
    refused(tmp_path, rf"bad{ending}.*{match}")


@pytest.mark.parametrize(
    "damage", [lambda b: b[:200], lambda b: b"plain", lambda b: b[:-9] + b"x" * 9]
)
def test_a_damaged_gzip_is_named(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "bad.bvh.gz").write_bytes(damage(gzip.compress(text().encode())))
    refused(tmp_path / "bad.bvh.gz", "cannot be read")


def test_any_cut_of_a_file_is_refused_unless_whole_lines_are_gone(tmp_path: Path) -> None:
    whole, path = text(12), tmp_path / "cut.bvh"
    whole = whole.replace("Frames: 60", "Frames: 12")
    for n in range(0, len(whole) - 2, 3):
        path.write_text(whole[:n])
        ends_a_row = whole[:n].endswith("\n") or whole[n] == "\n"
        if ends_a_row and n > 0.7 * len(whole):
            continue  # the last frames, which is said
        with pytest.raises(DataError, match=r"cut\.bvh"):
            read_bvh(path)


@pytest.mark.parametrize("end", ["", "\n\n", "\0\0", "\n\x1a"])
def test_frames_are_counted_however_the_file_ends(end: str, tmp_path: Path) -> None:
    rows = text().replace("Frames: 60", "Frames: 61").rstrip("\n")
    (tmp_path / "a.bvh").write_text(rows + end)
    with pytest.warns(UserWarning, match=r"a\.bvh: 61 frames.*the 60 there are read"):
        assert len(read_bvh(tmp_path / "a.bvh").positions) == 60
    (tmp_path / "a.bvh").write_text(rows[:-2])
    with pytest.raises(DataError, match=r"a\.bvh"):
        read_bvh(tmp_path / "a.bvh")


def test_joints_of_one_name_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text().replace("JOINT Leg", "JOINT Hips"))
    assert read_bvh(tmp_path / "a.bvh").skeleton.names == ["Hips", "Hips_2"]


def test_a_written_bvh_is_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text())
    write_bvh(tmp_path / "b.bvh", read_bvh(tmp_path / "a.bvh"))
    MocapDataModule(str(tmp_path), window=16).setup()


def joints(*lines: str, n_channels: int, n_frames: int = 20) -> tuple[str, np.ndarray]:
    """Return a file with this hierarchy, and its numbers."""
    values = 20 * np.random.default_rng(0).normal(size=(n_frames, n_channels))
    return "\n".join(["HIERARCHY", *lines, "MOTION", f"Frames: {n_frames}", ""]), values


def read(path: Path, head: str, values: np.ndarray) -> Motion:
    rows = "\n".join(" ".join(f"{x:.9f}" for x in row) for row in values)
    path.write_text(f"{head}Frame Time: 0.01\n{rows}\n")
    return read_bvh(path)


PLACE = "Xposition Yposition Zposition"


def test_joints_turn_about_the_axes_that_they_have(tmp_path: Path) -> None:
    head, values = joints(
        f"ROOT A {{ OFFSET 0 0 0\nCHANNELS 6 Zrotation Xrotation Yrotation {PLACE}",
        "JOINT B { OFFSET 0 1 0\nCHANNELS 1 Xrotation",
        "JOINT C { OFFSET 0 1 1\nCHANNELS 0",
        "JOINT D { OFFSET 1 1 0\nCHANNELS 2 Yrotation Zrotation",
        "End Site { OFFSET 0 1 0 } } } } }",
        n_channels=9,
    )
    motion = read(tmp_path / "a.bvh", head, values)
    np.testing.assert_allclose(motion.positions, values[:, 3:6])
    turns = [
        Rotation.from_euler("ZXY", values[:, :3], degrees=True),
        Rotation.from_euler("X", values[:, 6:7], degrees=True),
        Rotation.identity(len(values)),
        Rotation.from_euler("YZ", values[:, 7:], degrees=True),
    ]
    for j, turn in enumerate(turns):
        assert degrees_apart(motion.rotations[:, j], turn.as_quat()) < 1e-6
    write_bvh(tmp_path / "b.bvh", motion)
    np.testing.assert_allclose(read_bvh(tmp_path / "b.bvh").points(), motion.points(), atol=1e-6)


@pytest.mark.parametrize("n_above", [1, 2])
def test_a_root_that_stands_still_is_folded_away_exactly(n_above: int, tmp_path: Path) -> None:
    above = f"{{ OFFSET 0 0 0\nCHANNELS 6 {PLACE} Zrotation Xrotation Yrotation"
    below = f"JOINT Hips {above}\nJOINT Leg {{ OFFSET 0 -1 0\nCHANNELS 1 Xrotation"
    roots = [f"{'JOINT' if i else 'ROOT'} R{i} {above}" for i in range(n_above)]
    head, values = joints(
        *roots, f"{below}\nEnd Site {{ OFFSET 0 0 1 }} }} }}", "}" * n_above,
        n_channels=6 * n_above + 7,
    )  # fmt: skip
    values[:, : 6 * n_above] = values[0, : 6 * n_above]
    motion = read(tmp_path / "a.bvh", head, values)
    assert motion.skeleton.names == ["Hips", "Leg"]
    assert (motion.skeleton.parents, motion.skeleton.end_parents) == ([-1, 0], [1])
    place, turn = values[:, -7:-4], Rotation.from_euler("ZXY", values[:, -4:-1], degrees=True)
    for i in reversed(range(n_above)):
        still = values[:, 6 * i : 6 * i + 6]
        root = Rotation.from_euler("ZXY", still[:, 3:], degrees=True)
        place, turn = still[:, :3] + root.apply(place), root * turn
    points = motion.points()
    np.testing.assert_allclose(points[:, 0], place, atol=1e-9)
    np.testing.assert_allclose(points[:, 1], place + turn.apply([0, -1, 0]), atol=1e-9)


def test_what_stands_around_in_a_still_root_is_left_out(tmp_path: Path) -> None:
    rotations = "Zrotation Xrotation Yrotation"
    head, values = joints(
        f"ROOT Stage {{ OFFSET 0 0 0\nCHANNELS 6 {PLACE} {rotations}",
        f"JOINT Lamp {{ OFFSET 2 0 0\nCHANNELS 3 {rotations}\nEnd Site {{ OFFSET 0 1 0 }} }}",
        f"JOINT Hips {{ OFFSET 0 0 0\nCHANNELS 6 {PLACE} {rotations}",
        f"JOINT Leg {{ OFFSET 0 -1 0\nCHANNELS 3 {rotations}\nEnd Site {{ OFFSET 0 0 1 }} }} }} }}",
        n_channels=18,
    )
    values[:, :9] = values[0, :9]
    motion = read(tmp_path / "a.bvh", head, values)
    assert motion.skeleton.names == ["Hips", "Leg"]
    assert (motion.skeleton.parents, motion.skeleton.end_parents) == ([-1, 0], [1])
    stage = Rotation.from_euler("ZXY", values[0, 3:6], degrees=True)
    turn = stage * Rotation.from_euler("ZXY", values[:, 12:15], degrees=True)
    place = values[0, :3] + stage.apply(values[:, 9:12])
    np.testing.assert_allclose(motion.points()[:, 1], place + turn.apply([0, -1, 0]), atol=1e-9)
    values[:, 6] += np.arange(len(values))  # the lamp turns: it belongs to the motion
    with pytest.raises(DataError, match=r"joint Hips moves away from its parent"):
        read(tmp_path / "b.bvh", head, values)


@pytest.mark.slow
@pytest.mark.skipif("PUBLISHED_BVH" not in os.environ, reason="set PUBLISHED_BVH to a folder")
def test_published_files_are_read_to_their_own_channels() -> None:
    files = sorted(Path(os.environ["PUBLISHED_BVH"]).rglob("*.bvh*"))
    assert files
    assert max(check(file)[0] for file in files) < ALLOWED


def test_the_check_of_published_files_sees_a_joint_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bvh(tmp_path / "a.bvh", tumble(20))
    assert check(tmp_path / "a.bvh")[0] < 1e-9
    moved = replace(tumble(20), positions=tumble(20).positions + 1e-3)
    monkeypatch.setattr(published, "read_bvh", lambda path: moved)
    assert check(tmp_path / "a.bvh")[0] > ALLOWED


@pytest.mark.parametrize(
    ("offset", "place", "read_at"),
    [
        ("0 -4 0", [0, -4, 0], [0, -4, 0]),
        ("0 0 0", [1, -4, 0], [1, -4, 0]),
        ("0 -4 0", [0, 0, 0], None),
        ("0 -4 0", [0, -4, 1], None),
    ],
)
def test_position_channels_agree_with_the_offset(
    offset: str, place: list[float], read_at: list[float] | None, tmp_path: Path
) -> None:
    head, values = joints(
        f"ROOT A {{ OFFSET 0 0 0\nCHANNELS 6 {PLACE} Zrotation Xrotation Yrotation",
        f"JOINT B {{ OFFSET {offset}\nCHANNELS 6 {PLACE} Zrotation Xrotation Yrotation",
        "End Site { OFFSET 0 1 0 } } }",
        n_channels=12,
    )
    values[:, 6:9] = place
    if read_at is None:
        with pytest.raises(DataError, match=r"a\.bvh: joint B is at .* by its OFFSET"):
            read(tmp_path / "a.bvh", head, values)
    else:
        found = read(tmp_path / "a.bvh", head, values).skeleton.offsets
        np.testing.assert_allclose(found, [[0, 0, 0], read_at])
