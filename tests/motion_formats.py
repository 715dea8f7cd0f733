"""Files of motion in every format, made up."""

from typing import Any

import numpy as np

from rnade_lightning.datamodules import MocapDataModule

TAKES = MocapDataModule.shipped


KINDS: list[Any] = ["expmap", "6d", "positions", "raw"]


ROOTS: list[Any] = ["velocity", "position"]


ASF = """# made for a test
:version 1.10
:units
  length 0.45
  angle deg
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name thigh
     direction 0 -1 0
     length 4
     axis 0 0 20 XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 2
     name shin
     direction 0.6 -0.8 0
     length 5
     axis 30 -20 10 XYZ
    dof rx
    limits (-10.0 170.0)
  end
  begin
     id 3
     name head
     direction 0 1 0
     length 2
     axis 0 0 0 XYZ
  end
:hierarchy
  begin
    root head thigh
    thigh shin
  end
"""


def amc(n_frames: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.normal(size=(n_frames, 10)), axis=0)
    lines = ["#!made for a test", ":FULLY-SPECIFIED", ":DEGREES"]
    for t, row in enumerate(walk, start=1):
        words = [f"{value:.6g}" for value in row]
        lines += [str(t), "root " + " ".join(words[:6])]
        lines += ["thigh " + " ".join(words[6:9]), "shin " + words[9]]
    return "\n".join(lines) + "\n"


def c3d_bytes(points: np.ndarray, kind: int = 84, integers: bool = False) -> bytes:
    """Return a file as Intel (84), DEC (85) or MIPS (86) machines write it; NaN marks a gap."""
    end = ">" if kind == 86 else "<"
    n_frames, n_markers, _ = points.shape

    def floats(values: Any) -> bytes:
        raw = np.asarray(values, dtype=np.float32)
        if kind != 85:
            return raw.astype(f"{end}f4").tobytes()
        return (raw * 4).view("<u2").reshape(-1, 2)[:, ::-1].tobytes()

    def word(*values: int) -> bytes:
        return np.array(values, dtype=f"{end}u2").tobytes()

    scale = 0.5 if integers else -1.0
    records = b""

    def record(name: str, group: int, content: bytes) -> bytes:
        return bytes([len(name), group % 256]) + name.encode() + word(len(content) + 2) + content

    records += record("POINT", -1, b"\0")
    records += record("USED", 1, bytes([2, 0]) + word(n_markers) + b"\0")
    records += record("RATE", 1, bytes([4, 0]) + floats([60.0]) + b"\0")
    records += record("SCALE", 1, bytes([4, 0]) + floats([scale]) + b"\0")
    records += record("FRAMES", 1, bytes([2, 0]) + word(n_frames) + b"\0")
    names = "".join(f"M{i:<3}" for i in range(n_markers)).encode()
    records += record("LABELS", 1, bytes([255, 2, 4, n_markers]) + names + b"\0")
    parameters = (bytes([1, 80, 2, kind]) + records + b"\0\0").ljust(1024, b"\0")
    header = bytes([2, 0x50]) + word(n_markers, 0, 1, n_frames, 0) + floats([scale])
    header += word(4, 0) + floats([60.0])
    values = np.zeros((n_frames, n_markers, 4))
    values[..., :3] = np.where(np.isnan(points), 0, points / (scale if integers else 1))
    values[..., 3] = np.where(np.isnan(points).any(axis=-1), -1, 0)
    data = values.astype(f"{end}i2").tobytes() if integers else floats(values.ravel())
    return header.ljust(512, b"\0") + parameters + data


def trc(points: np.ndarray, fps: float = 60.0) -> str:
    """Return a file of places ``(T, M, 3)``, as OpenSim writes it; NaN marks a gap."""
    n_frames, n_markers, _ = points.shape
    lines = ["PathFileType\t4\t(X/Y/Z)\ta.trc"]
    lines += ["DataRate\tCameraRate\tNumFrames\tNumMarkers\tUnits\tOrigDataRate\tOrigNumFrames"]
    lines += [f"{fps:.2f}\t{fps:.2f}\t{n_frames}\t{n_markers}\tmm\t{fps:.2f}\t{n_frames}"]
    lines += ["Frame#\tTime\t" + "\t\t\t".join(f"M{m}" for m in range(n_markers)) + "\t\t"]
    lines += ["\t\t" + "\t".join(f"{a}{m + 1}" for m in range(n_markers) for a in "XYZ"), ""]
    for t, row in enumerate(points.reshape(n_frames, -1)):
        words = ["" if np.isnan(x) else f"{x:.7f}" for x in row]
        lines.append("\t".join([str(t + 1), f"{t / fps:.5f}", *words]))
    return "\n".join(lines) + "\n"
