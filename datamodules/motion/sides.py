"""Tell left from right by the names of joints and markers, as programs write them.

A side is a word of its own (``LeftArm``, ``mixamorig:LeftArm``, ``left_hip``), or a letter that
stands apart (``L_Arm``, ``arm.l``, ``upperarm_l``, ``Bip01 L Hand``, ``lShldr``, ``LHip``). A
letter in front of capitals (``LASI``) or beside a number tells a side only where the other side is
there too, so that ``ROOT`` and ``L5`` tell none.
"""

import re
from collections.abc import Iterable

_WORDS = {"left": "left", "right": "right", "lft": "left", "rgt": "right"}
_LETTERS = {"l": "left", "r": "right"}
_OTHER = {"l": "r", "r": "l", "L": "R", "R": "L"}
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def sides_of(names: Iterable[str]) -> list[str]:
    """Return the side of each name: ``"left"``, ``"right"`` or ``"middle"``.

    >>> sides_of(["mixamorig:LeftArm", "thigh.R", "LASI", "RASI", "LowerBack", "ROOT"])
    ['left', 'right', 'left', 'right', 'middle', 'middle']
    """
    known = list(names)
    there = set(known)
    return [_side(name, there) for name in known]


def _side(name: str, there: set[str]) -> str:
    """Return the side that a name tells, by itself or beside all names there are."""
    group, _, own = name.rpartition(":")
    return (
        _told(own) or _by_the_other(name, len(name) - len(own), there) or _told(group) or "middle"
    )


def _told(name: str) -> str | None:
    words = _WORD.findall(name)
    for word in words:
        if side := _WORDS.get(word.lower()):
            return side
        if found := re.match(r"(?:LEFT|RIGHT)(?=[A-Z])|(?:left|right)(?=[a-z])", word):
            return _WORDS[found[0].lower()]
    for token in re.split(r"[^A-Za-z0-9]+", name):
        words = _WORD.findall(token)
        apart = [words[0], words[-1]] if words and not any(w.isdigit() for w in words) else []
        for word in apart:
            if side := _LETTERS.get(word.lower()):
                return side
    return None


def _by_the_other(name: str, start: int, there: set[str]) -> str | None:
    """Return the side of a letter in whose place the other letter makes a name that is there: the
    first from ``start``, the last, or one before a number."""
    for i, letter in enumerate(name[start:], start=start):
        before_a_number = letter.isupper() and name[i + 1 : i + 2].isdigit()
        may_tell = letter in _OTHER and (i in (start, len(name) - 1) or before_a_number)
        if may_tell and name[:i] + _OTHER[letter] + name[i + 1 :] in there:
            return _LETTERS[letter.lower()]
    return None
