"""Files that are damaged in every way."""

import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from bodies import tumble
from motion_formats import ASF, amc, c3d_bytes, trc
from scipy.io import savemat
from sounds import parquet

from rnade_lightning.datamodules import DataError, MocapDataModule
from rnade_lightning.datamodules.core.mp4 import encoder
from rnade_lightning.datamodules.motion.bvh import write_bvh

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
    """Return the file with another last line."""
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
    "too many frames": (lambda t: t + 9 * (t.split("\n")[-2] + "\n"), "69 frames where 60"),
    "cut in the last number": (lambda t: t[:-3], "line 78: ends in .*shorter than"),
    "second root": (lambda t: t.replace("MOTION", "ROOT B\nMOTION"), "line 16: a second ROOT"),
    "frames per second": (lambda t: t.replace("0.0333333", "30"), "set it to 0.0333333 if 30 are"),
    "milliseconds": (lambda t: t.replace("0.0333333", "33.3"), "to 0.0333 if they are milli"),
    "wrong count of channels": (lambda t: t.replace("LS 3", "LS 2"), "line 9: cannot read"),
    "no frames": (lambda t: GOOD.replace("60", "0"), "0 frames"),
    "nan": (lambda t: last_line(t, "nan" + " 1" * 8), "line 78: 'nan'"),
    "infinite": (lambda t: last_line(t, "1e999" + " 1" * 8), "'1e999' is not a finite"),
    "undefined, as Windows has it": (
        lambda t: last_line(t, "1 " * 8 + "-1.#IND00"), "line 78: '-1.#IND00' is not a finite"
    ),
    "undefined offset": (
        lambda t: t.replace("0 -4 0", "0 -4 1.#QNAN0"), "line 8: cannot read 'OFFSET 0 -4 1.#QN"
    ),
    "a word": (lambda t: last_line(t, "1 x" + " 1" * 7), "line 78: 'x'"),
    "fewer channels": (lambda t: t.replace("6 Xposition Yposition Zposition", "3"), "for 6 chan"),
    "unknown channel": (lambda t: t.replace("6 Xposition", "6 Wposition"), "line 5: cannot read"),
    "infinite offset": (lambda t: t.replace("0 -4 0", "0 1e999 0"), "line 8: an offset is not"),
    "long word": (lambda t: t.replace("0 -4 0", "0 1" + "1" * 9000 + "x 0"), "line 8: cannot read"),
    "bad offset": (lambda t: t.replace("0 -4 0", "0 -4"), "line 8: cannot read"),
    "channel twice": (lambda t: t.replace("3 Zrotation", "3 Xrotation"), "a channel twice"),
    "brace missing": (lambda t: t.replace("}\n", "", 1), "do not nest"),
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
    """Expect that setting up fails, with one line that begins with the file or folder at fault."""
    with pytest.raises(DataError, match=match) as caught:
        MocapDataModule(str(root), **{"window": 16, **kwargs}).setup()  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(root))


def write_all(folder: Path) -> dict[str, Path]:
    """Return a small good file for each reader."""
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
    files |= {"trc": folder / "good.trc", "joints": folder / "joints.npy"}
    files |= {"smplx": folder / "amass_stageii.npz", "utf16": folder / "utf16.bvh"}
    files["trc"].write_text(trc(rng.normal(size=(60, 3, 3))))
    np.save(files["joints"], rng.normal(size=(40, 5, 3)))
    objects = np.array({"a": 1}, dtype=object)
    np.savez(
        files["smplx"], root_orient=poses[:, :3], pose_body=poses[:, 3:], trans=trans,
        mocap_frame_rate=60.0, markers_latent_vids=objects,
    )  # fmt: skip
    files["utf16"].write_text(files["bvh"].read_text(), encoding="utf-16")
    return files


def write_films(folder: Path) -> list[Path]:
    """Return small good files of sound that ffmpeg decodes; none where it is not installed."""
    program, files = encoder(), []
    for name, codec in (("good.m4a", "alac"), ("good.aac", "aac"), ("good.webm", "libopus")):
        if program is not None:
            files.append(folder / name)
            call = [program, "-v", "error", "-y", "-i", folder / "good.wav", "-c:a", codec]
            subprocess.run([*call, files[-1]], check=True)
    return files


SOUNDS = ["wav", "flac", "ogg", "mp3", "aiff"]


KINDS = ["bvh", "bvh.gz", "asf", "amc", "c3d", "mat", "npy", "csv", "npz", "amass", *SOUNDS]
KINDS += ["trc", "joints", "smplx", "utf16"]


MANIFESTS = ["manifest.csv", "manifest.parquet"][: 2 if find_spec("pyarrow") else 1]


KINDS += MANIFESTS
