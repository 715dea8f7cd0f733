"""BVH motion files, read and written.

A BVH file is a hierarchy of joints followed by one line of numbers a frame. The hierarchy is read
by `pymotion`; it takes names of plain files only, and passes over what it does not know, so the
statements are checked here first, one a line, and handed over in a temporary file. The block of
numbers is read here, ten times faster, and with the line of any fault.

Conventions:
    Angles are in degrees. A joint's channels are applied in the order listed: ``Zrotation
    Yrotation Xrotation`` is R = Rz Ry Rx on column vectors. Position channels give the joint's
    position in its parent and replace its offset.
"""

import gzip
import re
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
from pymotion.io.bvh import BVH
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.motion.quaternions import from_euler
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_STATEMENTS = {  # the letter that stands for a statement when the nesting is checked
    "H": r"HIERARCHY",
    "R": r"ROOT\s+\S.*",
    "J": r"JOINT\s+\S.*",
    "E": r"End\s+Site.*",
    "{": r"\{",
    "}": r"\}",
    "O": rf"OFFSET(?:\s+{_NUMBER}){{3}}",
    "C": r"CHANNELS\s+(?:3|6(?:\s+[XYZ]position){3})(?:\s+[XYZ]rotation){3}",
}
_STATEMENT = re.compile("|".join(f"({form})" for form in _STATEMENTS.values()))
_CHANGES_PLACE = 1e-3  # of the skeleton's size; a joint that is not the root may not move more


def read_bvh(path: str | Path) -> Motion:
    """Reads a motion from a ``.bvh`` or ``.bvh.gz`` file.

    Raises:
        DataError: Not a BVH file, truncated, numbers missing or not finite, or a joint other than
            the root that moves away from its parent. Names the file, and the line where known.
    """
    path = Path(path)
    text = _text(path)
    if not text.lstrip().startswith("HIERARCHY"):
        raise DataError(f"{path}: not a BVH file (it does not begin with HIERARCHY): leave it out")
    head = re.search(
        r"^[ \t]*MOTION\s+Frames:\s*(\d+)\s+Frame Time:\s*(\S+)[ \t]*$", text, re.MULTILINE
    )
    if head is None:
        raise DataError(f"{path}: no MOTION, Frames and Frame Time lines: get the whole file again")
    skeleton, channels = _hierarchy(path, text[: head.start()])
    frame_time = _frame_time(path, head[2])
    values = _frames(path, text, head.end(), int(head[1]), len(channels))

    columns = {channel: column for column, channel in enumerate(channels)}
    n_frames, n_joints = len(values), len(skeleton.names)
    positions = np.tile(skeleton.offsets[0], (n_frames, 1))
    rotations = np.empty((n_frames, n_joints, 4))
    for order in sorted(set(skeleton.orders)):
        joints = [j for j in range(n_joints) if skeleton.orders[j] == order]
        angles = values[:, [columns[j, f"{axis}rotation"] for j in joints for axis in order]]
        rotations[:, joints] = from_euler(order, angles.reshape(n_frames, -1, 3))
    for j in range(n_joints):
        if (j, "Xposition") not in columns:
            continue
        place = values[:, [columns[j, f"{axis}position"] for axis in "XYZ"]]
        if j == 0:
            positions = place
        elif np.ptp(place, axis=0).max() > _CHANGES_PLACE * max(skeleton.size, 1e-9):
            name = skeleton.names[j]
            raise DataError(
                f"{path}: joint {name} moves away from its parent: export with fixed bones"
            )
        else:
            skeleton.offsets[j] = place.mean(axis=0)
    return Motion(skeleton, positions, rotations, 1 / frame_time)


def write_bvh(path: str | Path, motion: Motion) -> None:
    """Writes a motion as BVH: six channels for the root, three for every other joint.

    A path that ends in ``.gz`` is compressed, with no time stamp, so that equal motions make equal
    files.
    """
    skeleton, n_frames = motion.skeleton, len(motion.positions)
    lines: list[str] = ["HIERARCHY"]
    written = _write_joint(lines, skeleton, 0, "")
    columns = [motion.positions]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # any split of the angle will do
        for j in written:
            rotation = Rotation.from_quat(motion.rotations[:, j])
            columns.append(rotation.as_euler(skeleton.orders[j], degrees=True))
    lines += ["MOTION", f"Frames: {n_frames}", f"Frame Time: {1 / motion.fps:.9f}"]
    lines += [" ".join(f"{value:.8f}" for value in row) for row in np.concatenate(columns, axis=1)]
    content = ("\n".join(lines) + "\n").encode()
    with whole_file(path) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def _write_joint(lines: list[str], skeleton: Skeleton, joint: int, tab: str) -> list[int]:
    """Appends a joint and all that hangs from it; returns the joints in the order written."""
    channels = "3" if joint else "6 Xposition Yposition Zposition"
    channels += "".join(f" {axis}rotation" for axis in skeleton.orders[joint])
    lines += [f"{tab}{'JOINT' if joint else 'ROOT'} {skeleton.names[joint]}", f"{tab}{{"]
    lines += [f"{tab}\tOFFSET {_numbers(skeleton.offsets[joint])}", f"{tab}\tCHANNELS {channels}"]
    written = [joint]
    for child, parent in enumerate(skeleton.parents):
        if parent == joint:
            written += _write_joint(lines, skeleton, child, tab + "\t")
    for offset, parent in zip(skeleton.end_offsets, skeleton.end_parents, strict=True):
        if parent == joint:
            lines += [f"{tab}\tEnd Site", f"{tab}\t{{", f"{tab}\t\tOFFSET {_numbers(offset)}"]
            lines.append(f"{tab}\t}}")
    lines.append(f"{tab}}}")
    return written


def _numbers(values: Array) -> str:
    return " ".join(f"{value:.6f}" for value in values)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.name.lower().endswith(".gz"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}): get the whole file again") from error
    return data.decode("utf-8-sig", errors="replace").replace("\r\n", "\n").replace("\r", "\n")


def _hierarchy(path: Path, text: str) -> tuple[Skeleton, list[tuple[int, str]]]:
    """The skeleton, and the joint and kind of every channel in file order."""
    statements, shape, letters = [], "", list(_STATEMENTS)
    for number, line in enumerate(text.split("\n"), start=1):
        for statement in filter(None, map(str.strip, re.split(r"([{}])", line))):
            found = _STATEMENT.fullmatch(statement)
            if found is None or found.lastindex is None:
                raise DataError(
                    f"{path}, line {number}: cannot read {statement[:60]!r} in the hierarchy"
                    ": repair it"
                )
            shape += letters[found.lastindex - 1]
            statements.append(statement)
    nested = ""
    while nested != shape:  # a leaf, then what holds only leaves, .. becomes an x
        nested, shape = shape, re.sub(r"E\{O\}|J\{OCx*\}", "x", shape)
    if not re.fullmatch(r"HR\{OCx*\}", shape):
        raise DataError(f"{path}: joints of the hierarchy do not nest as BVH asks: export it again")

    names: list[str] = []
    layout: list[list[str]] = []
    for i, statement in enumerate(statements):
        words = statement.split()
        if words[0] in ("ROOT", "JOINT"):
            statements[i] = f"{words[0]} j{len(names)}"  # pymotion trips over names like "MOTION"
            names.append("_".join(words[1:]))
        elif words[0] == "CHANNELS":
            layout.append(words[2:])
    with tempfile.NamedTemporaryFile("w", suffix=".bvh", encoding="utf-8") as file:
        file.write("\n".join([*statements, "MOTION", "Frames: 0", "Frame Time: 1", ""]))
        file.flush()
        reader = BVH()
        reader.load(file.name)
    data = reader.data
    if len(set(names)) != len(names):
        raise DataError(f"{path}: two joints share a name: rename one")
    orders = ["".join(channel[0] for channel in channels[-3:]) for channels in layout]
    for name, order, channels in zip(names, orders, layout, strict=True):
        if len(set(channels)) != len(channels):
            raise DataError(f"{path}: joint {name} names a channel twice ({order}): repair it")
    skeleton = Skeleton(
        names=names,
        parents=[-1, *(int(parent) for parent in data["parents"][1:])],
        offsets=np.asarray(data["offsets"], dtype=np.float64),
        end_parents=[int(parent) for parent in data["end_sites_parents"]],
        end_offsets=np.reshape(np.asarray(data["end_sites"], dtype=np.float64), (-1, 3)),
        orders=orders,
    )
    return skeleton, [(j, channel) for j, channels in enumerate(layout) for channel in channels]


def _frame_time(path: Path, word: str) -> float:
    if not re.fullmatch(_NUMBER, word) or not 1e-5 < float(word) < 1e3:
        raise DataError(f"{path}: Frame Time is {word}: set it to the seconds between two frames")
    return float(word)


def _is_number(word: str) -> bool:
    return re.fullmatch(_NUMBER, word) is not None and np.isfinite(float(word)).item()


def _frames(path: Path, text: str, start: int, n_frames: int, n_channels: int) -> Array:
    """The block of numbers, ``(T, channels)``; every fault is reported with its line."""
    block = text[start:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = np.fromstring(block, dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.empty(0)
    if n_frames and values.size == n_frames * n_channels and np.isfinite(values).all():
        return values.reshape(n_frames, n_channels)
    first, found = text.count("\n", 0, start) + 1, 0
    for number, line in enumerate(block.split("\n"), start=first):
        words = line.split()
        bad = next((word for word in words if not _is_number(word)), None)
        if bad is not None:
            raise DataError(
                f"{path}, line {number}: {bad[:30]!r} is not a finite number: repair it"
            )
        if len(words) not in (0, n_channels):
            raise DataError(
                f"{path}, line {number}: {len(words)} numbers for {n_channels} channels, as in a"
                " truncated file: get the whole file again"
            )
        found += bool(words)
    raise DataError(
        f"{path}: {found} frames where {n_frames} are declared: get the whole file again,"
        " or correct its Frames line"
    )
