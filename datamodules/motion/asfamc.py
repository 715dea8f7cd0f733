"""Read ASF skeletons and AMC motions (Acclaim).

A bone of an ASF file has a direction and a length in the world's axes at rest, axes of its own, C,
about which it turns, and the angles (dof) that an AMC file gives of it each frame. With M the turn
by these angles, C M C^-1 is the bone's rotation in its parent's frame, and a bone begins where its
parent ends.

Here the joint at the beginning of a bone bears its name: its rotation turns the bone, and its
offset is the bone of its parent. Rotations are then the same numbers as in the BVH files made
of the same takes.

Conventions:
    As in `skeleton`. Angles are in degrees, or in radians where a file says so. ``rx ry rz`` is
    R = Rz Ry Rx on column vectors. Lengths are the numbers of the file: its unit, such as 0.45
    for CMU, is not applied.
"""

import re
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.limits import Limit
from rnade_lightning.datamodules.core.numbers import is_number
from rnade_lightning.datamodules.core.tables import check_end
from rnade_lightning.datamodules.core.texts import read_text
from rnade_lightning.datamodules.motion.skeleton import Motion, Skeleton

_TURNS = ("rx", "ry", "rz")
_ROOT_ORDER = ("tx", "ty", "tz", *_TURNS)
_DEGREES = dict.fromkeys(("deg", "degree", "degrees"), True)
_DEGREES |= dict.fromkeys(("rad", "radian", "radians"), False)
"""Whether angles are in degrees, by the word for their unit."""


def find_asf(path: Path) -> Path:
    """Return the path of an AMC file's skeleton: the ASF file beside it whose name begins the
    motion's name.

    >>> find_asf(Path("walks/02_01.amc"))  # doctest: +SKIP
    PosixPath('walks/02.asf')

    Raises:
        DataError: There is none, and not just one of another name.
    """
    files = sorted(file for file in path.parent.glob("*") if file.suffix.lower() == ".asf")
    named = [file for file in files if path.stem.lower().startswith(file.stem.lower())]
    if named:
        return max(named, key=lambda file: len(file.stem))
    if len(files) == 1:
        return files[0]
    raise DataError(f"{path}: has no skeleton: put its .asf file into the same folder")


def read_amc(path: str | Path, fps: float, max_bytes: int | None = None) -> Motion:
    """Read a motion, with the skeleton that lies beside it.

    Args:
        path: An ``.amc`` file.
        fps: Frames per second, which the file does not say.
        max_bytes: What the file may take; see `Limit`.

    Raises:
        DataError: A file that is not whole or not understood. Names the file and the line.
    """
    path = Path(path)
    skeleton, bones, degrees = read_asf(find_asf(path))
    angles, degrees = _read_frames(path, bones, degrees)
    n_frames, n_joints = len(next(iter(angles.values()))), len(skeleton.names)
    limit = Limit.of(path, max_bytes)
    limit.check(n_frames * n_joints * 32, f"{n_joints} joints in {n_frames} frames")
    rotations = np.empty((n_frames, len(skeleton.names), 4))
    for j, name in enumerate(skeleton.names):
        bone = bones[name]
        turns = [dof for dof in bone["dof"] if dof in _TURNS]
        columns = [bone["dof"].index(dof) for dof in turns]
        turn = Rotation.identity(n_frames)
        if turns:
            order = "".join(dof[1] for dof in turns)  # lower case: about fixed axes
            values = angles[name][:, columns]
            turn = Rotation.from_euler(order, values, degrees=degrees)
        rotations[:, j] = (bone["axes"] * turn * bone["axes"].inv()).as_quat()
    root = skeleton.names[0]
    places = [bones[root]["dof"].index(dof) for dof in _ROOT_ORDER[:3]]
    return Motion(skeleton, angles[root][:, places] + skeleton.offsets[0], rotations, fps)


def read_asf(path: Path) -> tuple[Skeleton, dict[str, dict[str, Any]], bool]:
    """Return the skeleton, the axes and angles of each bone, and whether angles are in degrees."""
    sections = _sections(path)
    words = [word.lower() for _, line in sections.get("units", []) for word in line]
    unit = dict(zip(words, [*words[1:], "no unit"], strict=False)).get("angle", "deg")
    if unit not in _DEGREES:
        raise DataError(f"{path}: angles in {unit}: only deg and rad can be read")
    degrees = _DEGREES[unit]
    bones: dict[str, dict[str, Any]] = {}
    for number, content in _blocks(path, sections):
        bone: dict[str, Any] = {"end": np.zeros(3), "dof": []}
        try:
            name = content["name"][0]
            direction, length = _vector(content["direction"]), _vector(content["length"][:1], 1)
            bone["end"] = direction * length
            bone["axes"] = _axes(content["axis"], degrees)
        except (KeyError, ValueError, IndexError) as error:
            raise DataError(
                f"{path}, line {number}: a bone without a good name, direction, length or axis"
                f" ({error}): repair it"
            ) from None
        bone["dof"] = [dof.lower() for dof in content.get("dof", [])]
        if name in bones or name == "root":
            raise DataError(f"{path}, line {number}: two bones are called {name}: rename one")
        if set(bone["dof"]) - set(_TURNS) or len(set(bone["dof"])) != len(bone["dof"]):
            raise DataError(f"{path}, line {number}: {name} has a dof other than rx, ry, rz")
        bones[name] = bone
    root = {words[0].lower(): words[1:] for _, words in sections.get("root", [])}
    try:
        order = [dof.lower() for dof in root["order"]]
        place = _vector(root.get("position", ["0"] * 3))
        axes = _axes(root.get("orientation", ["0"] * 3) + root.get("axis", ["XYZ"]), degrees)
        if sorted(order) != sorted(_ROOT_ORDER):
            raise ValueError(f"order {' '.join(order)}")
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: its :root is not understood ({error}): repair it") from None
    bones = {"root": {"end": np.zeros(3), "dof": order, "axes": axes}, **bones}
    names, parents = _tree(path, sections.get("hierarchy", []), bones)
    leaves = sorted(set(range(len(names))) - set(parents))
    offsets = [place] + [bones[names[p]]["end"] for p in parents[1:]]
    ends = np.reshape([bones[names[j]]["end"] for j in leaves], (-1, 3))
    skeleton = Skeleton(names, parents, np.array(offsets), leaves, ends, ["ZYX"] * len(names))
    return skeleton, bones, degrees


def _sections(path: Path) -> dict[str, list[tuple[int, list[str]]]]:
    """Return lines as words, with their numbers, by the ``:name`` they stand below."""
    sections: dict[str, list[tuple[int, list[str]]]] = {}
    current: list[tuple[int, list[str]]] = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        words = line.split()
        if words and words[0].startswith(":"):
            current = sections.setdefault(words.pop(0)[1:].lower(), [])
        if words:
            current.append((number, words))
    if not {"root", "bonedata", "hierarchy"} <= set(sections):
        raise DataError(f"{path}: not a whole ASF file (no :root, :bonedata or :hierarchy)")
    return sections


def _blocks(
    path: Path, sections: dict[str, list[tuple[int, list[str]]]]
) -> list[tuple[int, dict[str, list[str]]]]:
    """Return each bone's lines by their first word, and the line where the bone begins."""
    blocks, content, first = [], None, 0
    for number, words in sections["bonedata"]:
        if words[0].lower() == "begin" and content is None:
            content, first = dict[str, list[str]](), number
        elif words[0].lower() == "end" and content is not None:
            blocks.append((first, content))
            content = None
        elif content is None:
            raise DataError(f"{path}, line {number}: {words[0][:30]!r} stands outside a bone")
        else:
            content.setdefault(words[0].lower(), words[1:])
    if content is not None:
        raise DataError(f"{path}, line {first}: the bone has no end: get the whole file again")
    return blocks


def _tree(
    path: Path, lines: list[tuple[int, list[str]]], bones: dict[str, Any]
) -> tuple[list[str], list[int]]:
    """Return bones with the root first and parents before children, and the index of each
    parent."""
    children: dict[str, list[str]] = {}
    known = {"root"}
    for number, (parent, *below) in lines:
        if parent.lower() in ("begin", "end") and not below:
            continue
        for name in (parent, *below):
            if name not in bones:
                raise DataError(f"{path}, line {number}: no bone is called {name[:30]!r}")
        if parent not in known or known & set(below) or len(set(below)) != len(below):
            raise DataError(f"{path}, line {number}: the bones of this line do not hang together")
        known |= set(below)
        children.setdefault(parent, []).extend(below)
    if len(known) != len(bones):
        loose = sorted(set(bones) - known)[:3]
        raise DataError(f"{path}: nothing holds the bones {loose}: repair the hierarchy")
    names: list[str] = []
    parents: list[int] = []
    waiting = [("root", -1)]  # branch after branch, as BVH has them
    while waiting:
        name, parent_index = waiting.pop()
        branches = [(child, len(names)) for child in children.get(name, [])]
        names.append(name)
        parents.append(parent_index)
        waiting += reversed(branches)
    return names, parents


def _read_frames(
    path: Path, bones: dict[str, dict[str, Any]], degrees: bool
) -> tuple[dict[str, Array], bool]:
    """Return the angles of each bone, ``(T, dof)``, and whether they are in degrees."""
    lines = _text(path).split("\n")
    first = 0
    while first < len(lines) and not lines[first].strip().isdigit():
        word = lines[first].strip()
        if word and not word.startswith(":"):
            raise DataError(f"{path}, line {first + 1}: {word[:30]!r} stands before the frames")
        degrees = _DEGREES.get(word[1:].lower(), degrees)
        first += 1
    moving = {name: len(bone["dof"]) for name, bone in bones.items() if bone["dof"]}
    block = [words for line in lines[first:] if (words := line.split())]
    height, width = len(moving) + 1, sum(moving.values()) + 1
    order = [words[0] for words in block[1:height]]
    values = np.zeros(0)
    if block and len(block) % height == 0 and sorted(order) == sorted(moving):
        form = [1, *(1 + moving[name] for name in order)]
        n_frames = len(block) // height
        whole = [len(words) for words in block] == form * n_frames
        labelled = [words[0] for words in block if len(words) > 1] == order * n_frames
        if whole and labelled:
            numbers = " ".join(" ".join(words[len(words) > 1 :]) for words in block)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                with suppress(ValueError, DeprecationWarning):
                    values = np.fromstring(numbers, dtype=np.float64, sep=" ")
            values = values.reshape(n_frames, -1) if values.size == n_frames * width else values[:0]
    if not len(values) or not np.isfinite(values).all() or (np.diff(values[:, 0]) != 1).any():
        raise _fault(path, lines, first, moving)
    if not lines[-1][-1:].isspace() and lines[-1]:
        check_end(path, len(lines), (words[-1] for words in block if len(words) > 1))
    splits = np.cumsum([moving[name] for name in order])[:-1]
    parts = np.split(values[:, 1:], splits, axis=1)
    return dict(zip(order, parts, strict=True)), degrees


def _fault(path: Path, lines: list[str], first: int, moving: dict[str, int]) -> DataError:
    """Return the fault in a block of frames that could not be read as a whole."""
    waiting: set[str] = set()
    frame: int | None = None
    for number, line in enumerate(lines[first:], start=first + 1):
        words, place = line.split(), f"{path}, line {number}"
        if not words:
            continue
        if len(words) == 1 and words[0].isdigit():
            if waiting:
                return DataError(f"{place}: frame {frame} has no {sorted(waiting)[0]}: repair it")
            if frame is not None and int(words[0]) != frame + 1:
                return DataError(f"{place}: frame {words[0]} follows frame {frame}: repair it")
            frame, waiting = int(words[0]), set(moving)
        elif words[0] not in waiting:
            return DataError(
                f"{place}: {words[0][:30]!r} is no bone of the skeleton that moves, or comes twice"
            )
        elif len(words) != 1 + moving[words[0]]:
            return DataError(
                f"{place}: {len(words) - 1} angles of {words[0]} where {moving[words[0]]} are"
                " declared, as in a truncated file: get the whole file again"
            )
        elif bad := next((word for word in words[1:] if not is_number(word)), None):
            return DataError(f"{place}: {bad[:30]!r} is not a finite number: repair it")
        else:
            waiting.discard(words[0])
    if frame is None:
        return DataError(f"{path}: holds no frame: get the whole file again")
    if waiting:
        return DataError(
            f"{path}, line {len(lines)}: the file ends inside frame {frame}: get the whole file"
        )
    return DataError(f"{path}: bones of the frames change their order: repair it")


def _vector(words: list[str], size: int = 3) -> Array:
    if len(words) != size or not all(map(is_number, words)):
        raise ValueError(f"{' '.join(words)[:40]!r} where {size} numbers are needed")
    return np.array([float(word) for word in words])


def _axes(words: list[str], degrees: bool) -> Rotation:
    """Return three angles and the order in which they are applied, such as ``0 0 20 XYZ``."""
    order = words[3].lower() if len(words) == 4 else ""
    if sorted(order) != ["x", "y", "z"]:
        raise ValueError(f"axis {' '.join(words)[:40]!r}")
    angles = dict(zip("xyz", _vector(words[:3]), strict=True))
    return Rotation.from_euler(order, [angles[axis] for axis in order], degrees=degrees)


def _text(path: Path) -> str:
    """Return the text of a file without its comments, which end a line wherever they stand."""
    return re.sub("#[^\n]*", "", read_text(path, Limit.of(path)))
