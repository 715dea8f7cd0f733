"""Read the text of a BVH file, as programs write it: joints, channels, and rows of numbers.

Keywords and channel names stand in any case, joints may have any number of channels, lines may end
in comments (``#`` or ``//``), and the text may be UTF-8, UTF-16 or Latin. What the channels mean is
said in `bvh`.

Conventions:
    Channels are named as in ``Xposition`` and ``Zrotation``, whatever the file's case. Values are
    ``(T, C)``, in the order of the channels in the file.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from pytorch_lightning.utilities import rank_zero_warn

from rnade_lightning.datamodules.core import Array, DataError
from rnade_lightning.datamodules.core.limits import Limit
from rnade_lightning.datamodules.core.numbers import NUMBER, is_number
from rnade_lightning.datamodules.core.tables import check_end, same_form
from rnade_lightning.datamodules.core.texts import read_text as decoded
from rnade_lightning.datamodules.core.texts import told_apart

_STATEMENT = re.compile(
    r"(?P<open>\{)|(?P<close>\})|(?P<hierarchy>HIERARCHY)|(?P<root>ROOT\s+\S.*)"
    r"|(?P<joint>JOINT\s+\S.*)|(?P<end>End\s*Site.*)"
    rf"|(?P<offset>OFFSET(?:\s+{NUMBER}){{3}})"
    r"|(?P<channels>CHANNELS\s+[0-9]{1,2}(?:\s+[XYZ](?:position|rotation))*)",
    re.IGNORECASE,
)
_BODY = {"joint", "end", "close", "offset", "channels"}
_NEXT: dict[str, set[str]] = {  # what may follow a statement
    "start": {"hierarchy"},
    "hierarchy": {"root"},
    "root": {"open"},
    "joint": {"open"},
    "end": {"open"},
    "open": {"offset", "channels"},
    "offset": _BODY,
    "channels": _BODY,
    "close": {"joint", "end", "close"},
    "done": set(),
}
_COMMENT = re.compile(  # in a name, a sign that stands alone begins one; 1.#QNAN has none
    r"^(?:([ \t]*(?:ROOT|JOINT)\b[^\n]*?[ \t])(?:#|//)(?=[ \t])|"
    r"((?![ \t]*(?:ROOT|JOINT)\b)(?:[^\n]*?(?:[^\S\n]|[{}]))?)(?:#|//))[^\n]*",
    re.IGNORECASE | re.MULTILINE,
)
_MOTION = re.compile(
    r"(?:^|(?<=\}))[ \t]*MOTION\s+Frames\s*:\s*([0-9]{1,9})\s+Frame\s*Time\s*:\s*(\S+)[ \t]*$",
    re.IGNORECASE | re.MULTILINE,
)
_RATES = [12, 15, 24, 25, 30, 48, 50, 60, 72, 75, 90, 100, 120, 144, 150, 180, 200, 240, 300, 360]
_RATES += [480, 600]
_BROADCAST = [24 / 1.001, 30 / 1.001, 60 / 1.001, 120 / 1.001]
_ROW = re.compile(r"\S[^\n]*")  # a line from its first word on; empty ones are passed over
_JOINT = 32  # bytes of a joint's rotation in a frame
_FEW = 3  # frames by which a file may miss the number that it declares, or a twentieth of them


@dataclass(frozen=True)
class BvhText:
    """The content of a BVH file.

    Attributes:
        names: Name of each joint, the root first.
        parents: Index of each joint's parent; -1 for the root.
        offsets: Offset of each joint, ``(J, 3)``.
        end_parents: Joint that each end site hangs from.
        end_offsets: Offset of each end site, ``(E, 3)``.
        channels: Channels of each joint, in order.
        values: Numbers of every frame, ``(T, C)``.
        fps: Frames per second.
    """

    names: list[str]
    parents: list[int]
    offsets: Array
    end_parents: list[int]
    end_offsets: Array
    channels: list[list[str]]
    values: Array
    fps: float


def read_text(path: Path, max_bytes: int | None = None) -> BvhText:
    """Read what a ``.bvh`` or ``.bvh.gz`` file says.

    Args:
        path: File to read.
        max_bytes: What the file may take; see `Limit`.

    Raises:
        DataError: Not a BVH file, truncated, or numbers missing or not finite. Names the file, and
            the line where known.
    """
    limit = Limit.of(path, max_bytes)
    text = decoded(path, limit)
    if "#" in text or "//" in text:
        text = _COMMENT.sub(lambda found: found[1] or found[2] or "", text)
    if not text.lstrip()[:9].upper() == "HIERARCHY":
        raise DataError(f"{path}: not a BVH file (it does not begin with HIERARCHY): leave it out")
    head = _MOTION.search(text)
    if head is None:
        raise DataError(f"{path}: no MOTION, Frames and Frame Time lines: get the whole file again")
    names, parents, offsets, end_parents, end_offsets, channels = _hierarchy(
        path, text[: head.start()]
    )
    fps = frame_rate(path, head[2])
    values = _frames(path, text, head.end(), int(head[1]), sum(map(len, channels)))
    limit.check(len(values) * len(names) * _JOINT, f"{len(names)} joints in {len(values)} frames")
    ends = np.reshape(np.array(end_offsets, dtype=np.float64), (-1, 3))
    return BvhText(names, parents, np.array(offsets), end_parents, ends, channels, values, fps)


def frame_rate(path: Path, word: str) -> float:
    """Return the frames per second that a frame time means.

    A time of few digits stands for the usual rate that is written so: 0.0333 for 30 frames per
    second, 0.0083 for 120. Zeros behind milliseconds may be padding, as in 0.033000; before that
    they are digits: 0.0800 is 12.5.

    Args:
        path: File to name in an error.
        word: The time between two frames as the file writes it, in seconds.

    Raises:
        DataError: Not a number of seconds that can lie between two frames of motion.

    >>> [frame_rate(Path("a.bvh"), word) for word in ("0.0167", "0.02", "0.033000", "0.0800000")]
    [60.0, 50.0, 30.0, 12.5]
    """
    if not re.fullmatch(NUMBER, word) or not 1e-5 < float(word) < 1e9:
        raise DataError(f"{path}: Frame Time is {word}: set it to the seconds between two frames")
    time = float(word)
    if time >= 1:
        raise DataError(
            f"{path}: Frame Time is {word}, too long for seconds: set it to {1 / time:.6g} if"
            f" {word} are frames per second, to {time / 1000:.6g} if they are milliseconds"
        )
    rate = 1 / time
    if abs(rate - round(rate)) < 1e-6 * rate:
        return float(round(rate))
    written = Decimal(word), Decimal(word).normalize()  # zeros at the end may be padding
    last, kept = (10.0 ** int(x.as_tuple().exponent) for x in written)
    digit = max(last, min(kept, 1e-3))  # what the last digit counts; whole milliseconds are written
    found = []
    for usual in [*_RATES, *_BROADCAST]:
        rounded = abs(1 / usual - time) <= digit * (0.5 + 1e-6)
        if rounded or 0 <= 1 / usual - time < digit:
            found.append((not rounded, usual in _BROADCAST, abs(usual - rate), float(usual)))
    return min(found)[-1] if found else rate


_Hierarchy = tuple[
    list[str], list[int], list[list[float]], list[int], list[list[float]], list[list[str]]
]


def _hierarchy(path: Path, text: str) -> _Hierarchy:
    """Return names, parents, offsets, those of end sites, and channels of the joints; one pass."""
    names: list[str] = []
    parents, end_parents = [-1], []
    offsets: list[list[float]] = []
    end_offsets: list[list[float]] = []
    channels: list[list[str]] = []
    open_: list[int] = []  # joints whose brackets are open, the innermost last; -1 for an end site
    said: set[str] = set()  # of the innermost bracket
    last, opened = "start", "root"
    for number, statement in _statements(text):
        found = _STATEMENT.fullmatch(statement)
        kind = found.lastgroup if found else None
        words = statement.split()
        if kind is None or (kind == "channels" and int(words[1]) != len(words) - 2):
            raise DataError(
                f"{path}, line {number}: cannot read {statement[:60]!r} in the hierarchy: repair it"
            )
        if kind == "root" and names:
            raise DataError(f"{path}, line {number}: a second ROOT: make a file of each skeleton")
        in_end = bool(open_) and open_[-1] < 0
        bare = kind in ("joint", "end", "close") and (not open_ or "offset" not in said)
        wrong_in_end = in_end and kind not in ("open", "offset", "close") and len(words) != 2
        wrong_in_end = wrong_in_end or (in_end and kind in ("joint", "end"))
        if kind not in _NEXT[last] or bare or wrong_in_end or kind in said:
            raise DataError(
                f"{path}, line {number}: {statement[:60]!r} cannot stand there: joints of the"
                " hierarchy do not nest as BVH asks: export it again"
            )
        if kind in ("root", "joint"):
            names.append("_".join(words[1:]))
            channels.append([])
            parents += [open_[-1]] if kind == "joint" else []
            opened = kind
        elif kind == "end":
            end_parents.append(open_[-1])
            opened = kind
        elif kind == "open":
            open_.append(len(names) - 1 if opened != "end" else -1)
            said = set()
        elif kind == "offset":
            if not all(map(is_number, words[1:])):
                raise DataError(f"{path}, line {number}: an offset is not finite: repair it")
            (end_offsets if in_end else offsets).append([float(word) for word in words[1:]])
            said.add(kind)
        elif kind == "channels":
            if not in_end:
                channels[open_[-1]] = [word[0].upper() + word[1:].lower() for word in words[2:]]
            said.add(kind)
        elif kind == "close":
            open_.pop()
            said = {"offset", "channels"}  # nothing but joints may follow
        last = kind if kind != "close" or open_ else "done"
    if last != "done":
        raise DataError(
            f"{path}: joints of the hierarchy do not nest as BVH asks: its last bracket is missing:"
            " export it again"
        )
    names = told_apart(path, names, "joints")
    return names, parents, offsets, end_parents, end_offsets, channels


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Return the line number and text of every statement; a bracket is a statement of its own."""
    number, at = 1, 0
    for line in _ROW.finditer(text):
        number, at = number + text.count("\n", at, line.start()), line.start()
        for part in re.split(r"([{}])", line[0]):
            for statement in re.split(r"\s(?=(?:CHANNELS|OFFSET)\s+[-+.0-9])", part, flags=re.I):
                if statement := statement.strip():
                    yield number, statement


def _frames(path: Path, text: str, start: int, n_frames: int, n_channels: int) -> Array:
    """Return the block of numbers, ``(T, C)``; every fault is reported with its line."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = np.fromstring(text[start:], dtype=np.float64, sep=" ")
    except (ValueError, DeprecationWarning):
        values = np.empty(0)
    whole = n_frames > 0 and values.size == n_frames * n_channels and np.isfinite(values).all()
    widths = Counter(len(row[0].split()) for row in _ROW.finditer(text, start))
    shifted = widths.total() == n_frames and set(widths) != {n_channels}  # to a neighbouring row
    if not whole or shifted:
        found = _check_rows(path, text, start, n_channels)
        if found == 0 or (not whole and not _few(text, start, found, n_frames)):
            raise DataError(
                f"{path}: {found} frames where {n_frames} are declared: get the whole file again,"
                " or correct its Frames line"
            )
        if found != n_frames:
            rank_zero_warn(f"{path}: {n_frames} frames are declared: the {found} there are read")
        if values.size != found * n_channels:  # blanks of other kinds, which NumPy does not know
            values = np.array([float(word) for word in text[start:].split()])
    if not text[-1:].isspace():
        last_words = (row[0].split()[-1] for row in _ROW.finditer(text, start))
        check_end(path, text.count("\n") + 1, last_words)
    return values.reshape(-1, n_channels)


def _few(text: str, start: int, found: int, declared: int) -> bool:
    """Tell whether frames are as good as all there, and do not end as if cut."""
    near = abs(found - declared) <= max(_FEW, found // 20) and declared > 0
    whole = text[-1:].isspace() or same_form(
        row[0].split()[-1] for row in _ROW.finditer(text, start)
    )
    return near and (found > declared or whole)


def _check_rows(path: Path, text: str, start: int, n_channels: int) -> int:
    """Count the rows, and refuse any that is not of one finite number a channel."""
    found = 0
    for row in _ROW.finditer(text, start):
        words = row[0].split()
        bad = next((word for word in words if not is_number(word)), None)
        if bad is None and len(words) == n_channels:
            found += 1
            continue
        line = f"{path}, line {text.count(chr(10), 0, row.start()) + 1}"
        if bad is not None:
            raise DataError(f"{line}: {bad[:30]!r} is not a finite number: repair it")
        raise DataError(
            f"{line}: {len(words)} numbers for {n_channels} channels, as in a truncated file: get"
            " the whole file again"
        )
    return found
