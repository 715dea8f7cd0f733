"""Compares where a folder of BVH files is read to be with the files' own channels.

``python tests/published.py FOLDER`` reads every ``.bvh`` and ``.bvh.gz`` file below a folder and
puts its joints into the world by loops of its own, straight from the text: position channels
replace a joint's offset, rotations turn about the axes in the order of the channels. Right is a
difference below 1e-5 of the body's size at every joint that is read. What was folded away or left
out as standing still is listed. Status 1 if a file is refused or wrong.
"""

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.motion.bvh import read_bvh

ALLOWED = 1e-5
"""Share of the size of the body by which a joint may be elsewhere."""


def places(text: str) -> dict[str, np.ndarray]:
    """Return the place of every joint in the world, ``(T, 3)``, of a plain BVH file."""
    head, frames = text.split("MOTION")
    offsets: dict[str, np.ndarray] = {}
    channels: list[tuple[str, str]] = []
    parents: dict[str, str | None] = {}
    open_: list[str | None] = []
    name: str | None = None
    for line in head.splitlines():
        words = line.split()
        kind = words[0] if words else ""
        if kind in ("ROOT", "JOINT"):
            name = " ".join(words[1:])
            parents[name] = open_[-1] if open_ else None
        elif kind == "End":
            name = None
        elif kind == "{":
            open_.append(name)
        elif kind == "}":
            open_.pop()
        elif kind == "OFFSET" and open_[-1] is not None:
            offsets[open_[-1]] = np.array(words[1:], dtype=float)
        elif kind == "CHANNELS":
            channels += [(str(open_[-1]), channel) for channel in words[2:]]
    rows = [line.split() for line in frames.splitlines()[3:] if line.strip()]
    values = np.array(rows, dtype=float)
    place = {joint: np.tile(offset, (len(values), 1)) for joint, offset in offsets.items()}
    turn = {joint: Rotation.identity(len(values)) for joint in offsets}
    for (joint, channel), column in zip(channels, values.T, strict=True):
        if channel.endswith("position"):
            place[joint][:, "XYZ".index(channel[0])] = column
        else:
            turn[joint] = turn[joint] * Rotation.from_euler(
                channel[0], column[:, None], degrees=True
            )
    for joint, parent in parents.items():  # parents come first
        if parent is not None:
            place[joint] = place[parent] + turn[parent].apply(place[joint])
            turn[joint] = turn[parent] * turn[joint]
    return place


def check(path: Path) -> tuple[float, list[str]]:
    """Return the largest distance of a joint, in sizes of the body, and the joints not read."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode()
    known, motion = places(text), read_bvh(path)
    names = motion.skeleton.names
    points = motion.points()[:, : len(names)]
    size = np.ptp(points, axis=1).max()
    away = max(np.abs(points[:, j] - known[name]).max() for j, name in enumerate(names))
    return float(away / size), [name for name in known if name not in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    files = sorted(file for end in ("*.bvh", "*.bvh.gz") for file in folder.rglob(end))
    worst, wrong, gone = 0.0, 0, set[str]()
    for file in files:
        try:
            away, left_out = check(file)
        except DataError as error:
            print(f"refused: {error}")
            wrong += 1
            continue
        worst, gone = max(worst, away), gone | set(left_out)
        if away > ALLOWED:
            print(f"{file.name}: {away:.2g} of the body's size away")
            wrong += 1
    print(f"{len(files)} files, {wrong} wrong, joints at most {worst:.2g} of the body's size away")
    print(f"left out: {', '.join(sorted(gone)) or 'none'}")
    sys.exit(wrong > 0 or not files)


if __name__ == "__main__":
    main()
