"""Data that cannot be used: one clear line that names the file and what to do."""

import gzip
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fuzz import CHECKED, mutate, outcome, reader_of
from scipy.io import savemat
from sounds import parquet
from test_formats import ASF, amc, c3d_bytes
from test_mocap import tumble

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.core.arrays import ArrayDataModule
from rnade_lightning.datamodules.core.corpus import find_files
from rnade_lightning.datamodules.core.frames import Recording
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.motion.bvh import read_bvh, write_bvh

GOOD = """HIERARCHY
ROOT Hips
{
OFFSET 0 0 0
CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation
JOINT Leg
{
OFFSET 0 -4 0
CHANNELS 3 Zrotation Yrotation Xrotation
End Site
{
OFFSET 0 -4 0
}
}
}
MOTION
Frames: 60
Frame Time: 0.0333333
"""


def text(n_frames: int = 60, seed: int = 0) -> str:
    rows = 10 * np.random.default_rng(seed).normal(size=(n_frames, 9))
    return GOOD + "\n".join(" ".join(f"{x:.4f}" for x in row) for row in rows) + "\n"


def last_line(good: str, line: str) -> str:
    """The file with another last line."""
    return "\n".join([*good.split("\n")[:-2], line, ""])


BAD: dict[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda t: "", "not a BVH file"),
    "something else": (lambda t: "<html>hello</html>", "not a BVH file"),
    "hierarchy only": (lambda t: t[: t.index("MOTION")], "no MOTION"),
    "cut in the hierarchy": (lambda t: t[:80], "no MOTION"),
    "cut in a line": (lambda t: t[:-30], "line 78: . numbers for 9 channels.*truncated"),
    "cut between lines": (
        lambda t: "\n".join(t.split("\n")[:50]) + "\n",
        "32 frames where 60 are declared",
    ),
    "too many frames": (lambda t: t + t.split("\n")[-2] + "\n", "61 frames where 60"),
    "no frames": (lambda t: GOOD.replace("60", "0"), "0 frames"),
    "nan": (lambda t: last_line(t, "nan" + " 1" * 8), "line 78: 'nan'"),
    "infinite": (lambda t: last_line(t, "1e999" + " 1" * 8), "'1e999' is not a finite"),
    "a word": (lambda t: last_line(t, "1 x" + " 1" * 7), "line 78: 'x'"),
    "fewer channels": (lambda t: t.replace("6 Xposition Yposition Zposition", "3"), "for 6 chan"),
    "unknown channel": (lambda t: t.replace("6 Xposition", "6 Wposition"), "line 5: cannot read"),
    "bad offset": (lambda t: t.replace("0 -4 0", "0 -4"), "line 8: cannot read"),
    "channel twice": (lambda t: t.replace("3 Zrotation", "3 Xrotation"), "a channel twice"),
    "brace missing": (lambda t: t.replace("}\n", "", 1), "do not nest"),
    "same name twice": (lambda t: t.replace("JOINT Leg", "JOINT Hips"), "share a name"),
    "no time": (lambda t: t.replace("0.0333333", "0"), "Frame Time is 0"),
    "odd time": (lambda t: t.replace("0.0333333", "fast"), "Frame Time is fast"),
    "stretching bone": (
        lambda t: t.replace(
            "CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation", "CHANNELS 3 "
            "Zrotation Yrotation Xrotation"
        ).replace(
            "-4 0\nCHANNELS 3 Zrotation", "-4 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation"
        ),
        "joint Leg moves away",
    ),
}  # fmt: skip


def refused(root: Path, match: str, **kwargs: object) -> None:
    """Setting up fails with one line that begins with the file or folder at fault."""
    with pytest.raises(DataError, match=match) as caught:
        MocapDataModule(str(root), **{"window": 16, **kwargs}).setup()  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(root))


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


def test_any_cut_of_a_file_is_refused_or_reads_fewer_digits(tmp_path: Path) -> None:
    whole, path = text(12), tmp_path / "cut.bvh"
    whole = whole.replace("Frames: 60", "Frames: 12")
    for n in range(0, len(whole) - 8, 7):
        path.write_text(whole[:n])
        with pytest.raises(DataError, match=r"cut\.bvh"):
            read_bvh(path)


def test_missing_empty_and_foreign_roots_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such file or folder: check")
    refused(tmp_path, r"holds no \.bvh or")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "not a kind of file that can be read here: give a .bvh")
    refused(tmp_path / "*.bvh", "holds no")


def test_files_are_found_in_folders_and_globs_in_order(tmp_path: Path) -> None:
    for name in ("b.bvh", "a/c.BVH", "a/d.bvh.gz", "a/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_files(tmp_path, (".bvh", ".bvh.gz"))
    assert [path.name for path in found] == ["c.BVH", "d.bvh.gz", "b.bvh"]
    assert find_files(f"{tmp_path}/*/*.gz", (".bvh", ".bvh.gz")) == found[1:2]


def test_too_few_frames_for_a_window_are_named_with_a_window_that_fits(tmp_path: Path) -> None:
    (tmp_path / "good.bvh").write_text(text())
    path = tmp_path / "good.bvh"
    refused(path, "59 frames leave only 41 frames for train where 64.*window to 41", window=64)
    MocapDataModule(str(path), window=41).setup()
    refused(path, "only 6 frames for val where 9 are needed: raise val_fraction", warmup=8)


def test_takes_too_short_to_warm_up_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short.bvh").write_text(text(5).replace("Frames: 60", "Frames: 5"))
    refused(tmp_path / "short.bvh", "only 3 frames for train where 5 .*: remove the file", window=2)
    (tmp_path / "short.bvh").write_text(text(1).replace("Frames: 60", "Frames: 1"))
    refused(tmp_path / "short.bvh", "fewer than 2 frames")
    refused(tmp_path / "short.bvh", "fewer than 2 frames", skip_frames=9)


def test_a_still_take_is_refused(tmp_path: Path) -> None:
    (tmp_path / "still.bvh").write_text(GOOD + ("1 2 3 4 5 6 7 8 9\n" * 60))
    refused(tmp_path / "still.bvh", "every feature is constant")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("JOINT Leg", "JOINT Arm"), r"skeleton is another \(joints in excess \['Arm'\], missing"),
        (("-4", "-400"), "100 times the size"),
    ],
)
def test_two_skeletons_that_do_not_match_are_refused(
    change: tuple[str, str], match: str, tmp_path: Path
) -> None:
    (tmp_path / "a.bvh").write_text(text())
    head, motion = text(seed=1).split("MOTION")
    (tmp_path / "b.bvh").write_text(head.replace(*change) + "MOTION" + motion)
    refused(tmp_path, rf"b\.bvh: does not fit .*a\.bvh: .*{match}")
    data = MocapDataModule(str(tmp_path / "a.bvh"), window=16)
    with pytest.raises(DataError, match=rf"b\.bvh: does not fit the training data.*{match}"):
        data.score_input(tmp_path / "b.bvh")


def test_motion_and_the_paper_set_do_not_mix(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text())
    savemat(tmp_path / "b.mat", {"batchdata": np.zeros((9, 4)), "seqlengths": [[9]]})
    refused(tmp_path, r"b\.mat.*MATLAB set")


def test_damaged_paper_sets_are_named(tmp_path: Path) -> None:
    path, data = tmp_path / "set.mat", np.random.default_rng(0).normal(size=(300, 5))
    savemat(path, {"batchdata": data, "seqlengths": [[100, 200]]})
    whole = path.read_bytes()
    refused(path, "leave fps", fps=60)
    for n in (0, 60, 200, 2000, len(whole) - 9):
        path.write_bytes(whole[:n])
        refused(path, "MATLAB|batchdata")
    savemat(path, {"other": data})
    refused(path, "no numbers called batchdata")
    savemat(path, {"batchdata": data, "seqlengths": [[100, 100]]})
    refused(path, "sums to 200")
    data[7, 3] = np.nan
    savemat(path, {"batchdata": data, "seqlengths": [[100, 200]]})
    refused(path, "frame 7, feature_3 is nan")
    savemat(path, {"batchdata": np.zeros((300, 5)), "seqlengths": [[300]]})
    refused(path, "every feature is constant")


def test_too_few_files_for_whole_file_splits(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text())
    refused(tmp_path, "1 files are too few.*split to tail", split="file")


@pytest.mark.parametrize(
    "arguments",
    [{"window": 0}, {"window": 8, "stride": 9}, {"test_fraction": 1.0}, {"fps": 0}, {"up": "x"}],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(DataError):
        MocapDataModule(**arguments)  # type: ignore[arg-type]


def test_frames_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    data = MocapDataModule()
    frames = data.sequences("test")[0].frames[:9].clone()
    frames[4, 2] = float("nan")
    with pytest.raises(DataError, match="walk: frames to write must be"):
        data.render(frames, tmp_path / "walk")
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with whole_file(path) as part:
            part.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


# Random damage: `fuzz.py` does the same thousands of times, with real files


def write_all(folder: Path) -> dict[str, Path]:
    """A small good file for each reader."""
    rng, folder = np.random.default_rng(0), Path(folder)
    frames = rng.normal(size=(60, 4))
    motion = tumble(40)
    files = {k: folder / f"good.{k}" for k in ("bvh", "asf", "amc", "c3d", "mat", "npy", "csv")}
    files |= {"bvh.gz": folder / "good.bvh.gz", "amass": folder / "amass.npz"}
    files["npz"] = folder / "plain.npz"
    for kind in ("bvh", "bvh.gz"):
        write_bvh(files[kind], motion)
    files["asf"].write_text(ASF)
    files["amc"].write_text(amc(40))
    files["c3d"].write_bytes(c3d_bytes(rng.normal(size=(60, 3, 3))))
    savemat(files["mat"], {"batchdata": frames, "seqlengths": [[20, 40]]}, do_compression=True)
    np.save(files["npy"], frames)
    np.savetxt(files["csv"], frames, delimiter=",", header="a,b,c,d", comments="")
    np.savez(files["npz"], one=frames, two=frames, fps=30.0, feature_names=list("abcd"))
    poses, trans = rng.normal(size=(40, 66)), rng.normal(size=(40, 3))
    for kind in SOUNDS:
        files[kind] = folder / f"good.{kind}"
        soundfile.write(files[kind], 0.1 * rng.normal(size=4000), 16_000)
    table = {"path": [f"good.{kind}" for kind in SOUNDS], "split": ["train"] * len(SOUNDS)}
    rows = zip(*table.values(), strict=True)
    files |= {kind: folder / kind for kind in MANIFESTS}
    files["manifest.csv"].write_text("\n".join(map(",".join, [tuple(table), *rows])) + "\n")
    if "manifest.parquet" in files:
        parquet(files["manifest.parquet"], table)
    np.savez(files["amass"], poses=poses, trans=trans, mocap_framerate=60.0)
    return files


SOUNDS = ["wav", "flac", "ogg", "mp3", "aiff"]
KINDS = ["bvh", "bvh.gz", "asf", "amc", "c3d", "mat", "npy", "csv", "npz", "amass", *SOUNDS]
MANIFESTS = ["manifest.csv", "manifest.parquet"][: 2 if find_spec("pyarrow") else 1]
KINDS += MANIFESTS


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_in_one_line_or_read(kind: str, tmp_path: Path) -> None:
    files = write_all(tmp_path)
    path, motion = files[kind], files["amc" if kind == "asf" else kind]
    whole, read = path.read_bytes(), reader_of(path)
    assert outcome(motion, read) == "read"
    known = read(motion) if motion.name.endswith(CHECKED) else None
    found = set()
    for seed in range(60):
        path.write_bytes(mutate(whole, np.random.default_rng(seed)))
        found.add(outcome(motion, read, known))
    assert found <= {"read", "refused"}, found
    assert "refused" in found


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_end_early_are_refused(kind: str, tmp_path: Path) -> None:
    files = write_all(tmp_path)
    path, motion = files[kind], files["amc" if kind == "asf" else kind]
    whole, read = path.read_bytes(), reader_of(path)
    for share in (0, 0.01, 0.1, 0.3, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        if (
            kind.endswith("csv")
            and share > 0.05
            and whole[: int(share * len(whole))].endswith(b"\n")
        ):
            continue  # nothing in such a file says how long it is
        assert outcome(motion, read) == "refused" or kind == "csv", share


def test_a_reader_that_lets_damage_through_is_seen(tmp_path: Path) -> None:
    path = write_all(tmp_path)["npy"]

    def careless(path: Path) -> Recording:
        return Recording({"": np.load(path)}, ["a", "b"], 30.0, {})

    assert outcome(path, careless) == "frames (60, 4) of 2 features"
    path.write_bytes(b"")
    assert "Error" in outcome(path, careless)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("shin ", "shank "), r"07_01\.amc, line \d+: 'shank' is no bone"),
        (("thigh ", "thigh 1 "), r"line 6: 4 angles of thigh where 3"),
        (("\n7\n", "\n8\n"), r"line 28: frame 8 follows frame 6"),
        (("root ", "root x"), r"line 5: 'x.*' is not a finite number"),
    ],
)
def test_faults_of_acclaim_motions_are_placed(
    change: tuple[str, str], match: str, tmp_path: Path
) -> None:
    (tmp_path / "07.asf").write_text(ASF)
    (tmp_path / "07_01.amc").write_text(amc(40).replace(*change, 1))
    refused(tmp_path, match)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (("thigh shin", "thigh foot"), r"07\.asf, line \d+: no bone is called 'foot'"),
        (("    thigh shin\n", ""), r"07\.asf: nothing holds the bones \['shin'\]"),
        (("dof rx ry rz", "dof rx tx"), r"line 12: thigh has a dof other than"),
        (("length 5", "length five"), r"line 23: a bone without a good name"),
        (("axis 30 -20 10 XYZ", "axis 30 -20 10 XXZ"), r"line 23: a bone without.*axis"),
        (("order TX TY TZ", "order TX TY"), r":root is not understood"),
        ((":hierarchy", ":h"), r"not a whole ASF file"),
        (("angle deg", "angle grad"), r"angles in grad"),
    ],
)
def test_faults_of_acclaim_skeletons_are_placed(
    change: tuple[str, str], match: str, tmp_path: Path
) -> None:
    (tmp_path / "07.asf").write_text(ASF.replace(*change, 1))
    (tmp_path / "07_01.amc").write_text(amc(40))
    refused(tmp_path, match)


def test_a_header_that_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((60, 4)))
    path.write_bytes(path.read_bytes().replace(b"(60, 4), ", b"(10**9,4)"))
    assert outcome(path, ArrayDataModule().read) == "refused"
    np.save(path, np.zeros((60, 4)))
    path.write_bytes(path.read_bytes().replace(b"(60, 4),   ", b"(60000000, 4),")[:-5])
    assert outcome(path, ArrayDataModule().read) == "refused"


def test_objects_in_arrays_are_not_run(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: not a whole NumPy file"):
        ArrayDataModule().read(tmp_path / "a.npy")


def test_a_written_bvh_is_a_good_file(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text())
    write_bvh(tmp_path / "b.bvh", read_bvh(tmp_path / "a.bvh"))
    MocapDataModule(str(tmp_path), window=16).setup()
