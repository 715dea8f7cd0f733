"""BVH motion files, read and written.

A BVH file is a hierarchy of joints, a statement a line, followed by one line of numbers a frame:

    HIERARCHY
    ROOT name { OFFSET x y z  CHANNELS n name ..  joints }
    joint is JOINT name { .. as above .. } or End Site { OFFSET x y z }
    MOTION, Frames: n, Frame Time: s, and the numbers

Conventions:
    Angles are in degrees. A joint's channels are applied in the order listed: ``Zrotation
    Yrotation Xrotation`` is R = Rz Ry Rx on column vectors. Position channels give the joint's
    position in its parent and replace its offset.
"""

import gzip
import re
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.numbers import NUMBER, is_number
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton, from_euler

_STATEMENT = re.compile(
    r"(?P<open>\{)|(?P<close>\})|(?P<hierarchy>HIERARCHY)|(?P<root>ROOT\s+\S.*)"
    r"|(?P<joint>JOINT\s+\S.*)|(?P<end>End\s+Site.*)"
    rf"|(?P<offset>OFFSET(?:\s+{NUMBER}){{3}})"
    r"|(?P<channels>CHANNELS\s+(?:3|6(?:\s+[XYZ]position){3})(?:\s+[XYZ]rotation){3})"
)
_NEXT: dict[str, set[str]] = {  # what may follow a statement
    "start": {"hierarchy"},
    "hierarchy": {"root"},
    "root": {"open"},
    "joint": {"open"},
    "end": {"open"},
    "open": {"offset"},
    "offset": {"channels", "close"},
    "channels": {"joint", "end", "close"},
    "close": {"joint", "end", "close"},
    "done": set(),
}
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
        r"^[ \t]*MOTION\s+Frames:\s*([0-9]{1,9})\s+Frame Time:\s*(\S+)[ \t]*$", text, re.MULTILINE
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
    for order in sorted(set(skeleton.euler_orders)):
        joints = [j for j in range(n_joints) if skeleton.euler_orders[j] == order]
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
            columns.append(rotation.as_euler(skeleton.euler_orders[j], degrees=True))
    lines += ["MOTION", f"Frames: {n_frames}", f"Frame Time: {1 / motion.fps:.9f}"]
    lines += [" ".join(f"{value:.8f}" for value in row) for row in np.concatenate(columns, axis=1)]
    content = ("\n".join(lines) + "\n").encode()
    with whole_file(path) as part:
        part.write_bytes(gzip.compress(content, mtime=0) if str(path).endswith(".gz") else content)


def _write_joint(lines: list[str], skeleton: Skeleton, joint: int, tab: str) -> list[int]:
    """Appends a joint and all that hangs from it; returns the joints in the order written."""
    channels = "3" if joint else "6 Xposition Yposition Zposition"
    channels += "".join(f" {axis}rotation" for axis in skeleton.euler_orders[joint])
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
    """The skeleton, and the joint and kind of every channel in file order; one pass."""
    names: list[str] = []
    parents, end_parents = [-1], []
    offsets: list[list[float]] = []
    end_offsets: list[list[float]] = []
    layout: list[list[str]] = []
    open_: list[int] = []  # joints whose brackets are open, the innermost last; -1 for an end site
    last, opened = "start", "root"
    for number, statement in _statements(text):
        found = _STATEMENT.fullmatch(statement)
        kind = found.lastgroup if found else None
        if kind is None:
            raise DataError(
                f"{path}, line {number}: cannot read {statement[:60]!r} in the hierarchy: repair it"
            )
        in_end = bool(open_) and open_[-1] < 0
        closes = kind == "close" and (not open_ or (last == "offset" and not in_end))
        if kind not in _NEXT[last] or closes or (in_end and kind == "channels"):
            raise DataError(
                f"{path}, line {number}: {statement[:60]!r} cannot stand there: joints of the"
                " hierarchy do not nest as BVH asks: export it again"
            )
        words = statement.split()
        if kind in ("root", "joint"):
            names.append("_".join(words[1:]))
            parents += [open_[-1]] if kind == "joint" else []
            opened = kind
        elif kind == "end":
            end_parents.append(open_[-1])
            opened = kind
        elif kind == "open":
            open_.append(len(names) - 1 if opened != "end" else -1)
        elif kind == "offset":
            if not all(map(is_number, words[1:])):
                raise DataError(f"{path}, line {number}: an offset is not finite: repair it")
            (end_offsets if in_end else offsets).append([float(word) for word in words[1:]])
        elif kind == "channels":
            layout.append(words[2:])
        elif kind == "close":
            open_.pop()
        last = kind if kind != "close" or open_ else "done"
    if last != "done":
        raise DataError(
            f"{path}: joints of the hierarchy do not nest as BVH asks: its last bracket is missing:"
            " export it again"
        )
    if len(set(names)) != len(names):
        raise DataError(f"{path}: two joints share a name: rename one")
    euler_orders = ["".join(channel[0] for channel in channels[-3:]) for channels in layout]
    for name, order, channels in zip(names, euler_orders, layout, strict=True):
        if len(set(channels)) != len(channels):
            raise DataError(f"{path}: joint {name} names a channel twice ({order}): repair it")
    ends = np.reshape(np.array(end_offsets, dtype=np.float64), (-1, 3))
    skeleton = Skeleton(names, parents, np.array(offsets), end_parents, ends, euler_orders)
    return skeleton, [(j, channel) for j, channels in enumerate(layout) for channel in channels]


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Number of the line and text of every statement; brackets stand for themselves."""
    for number, line in enumerate(text.split("\n"), start=1):
        for statement in re.split(r"([{}])", line):
            if statement := statement.strip():
                yield number, statement


def _frame_time(path: Path, word: str) -> float:
    if not re.fullmatch(NUMBER, word) or not 1e-5 < float(word) < 1e3:
        raise DataError(f"{path}: Frame Time is {word}: set it to the seconds between two frames")
    return float(word)


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
        bad = next((word for word in words if not is_number(word)), None)
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
