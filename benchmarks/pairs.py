"""Compare rows of a task in pairs of test frames: differences, and their errors."""

import math
from typing import Any, NamedTuple

import torch

from rnade_lightning.callbacks.comparison_rows import PROCESS
from rnade_lightning.scoring import ahead, error_of_blocks

FRAMES = "frames"
"""Beside the rows of blocks: of how many frames each is."""
PAIRED = ("log_prob", "bits_per_sample")
"""Figures that are compared in pairs."""


class Blocks(NamedTuple):
    """Log p over blocks of test frames, the mean over seeds, and the frames of each, ``(M,)``; or
    its bits per sample, but for what is the same for all rows of a task."""

    sums: torch.Tensor
    frames: torch.Tensor

    @classmethod
    def of(cls, runs: list[dict[str, Any]], name: str | None = None) -> "Blocks | None":
        """Return those of the model of some runs, or of a row beside it; None without any."""
        found = [r["blocks"] for r in runs if "blocks" in r]
        if not found or (name and name not in found[0]):
            return None
        own = [r["blocks"][name or model_of(r)] for r in runs if "blocks" in r]
        sums = torch.tensor(own, dtype=torch.float64).mean(0)
        return cls(sums, torch.tensor(found[0][FRAMES], dtype=torch.float64))

    @classmethod
    def of_validation(cls, run: dict[str, Any]) -> "Blocks":
        """Return those of the validation part of a run."""
        return cls(*(torch.tensor(run["val_blocks"][k], dtype=torch.float64)
                     for k in ("log_p", "frames")))  # fmt: skip

    def in_bits(self, n_samples: int) -> "Blocks":
        """Return bits per sample of frames of so many samples; a constant is left out."""
        return Blocks(self.sums / (-n_samples * math.log(2)), self.frames)

    def above(self, other: "Blocks") -> tuple[float, float]:
        """Return by how much a figure is above another's on the same frames, and the error of that.

        Raises:
            ValueError: the blocks are not of the same frames.
        """
        if not torch.equal(self.frames, other.frames):
            raise ValueError("two runs of a task were tested on other frames: run both again")
        sums = self.sums - other.sums
        return float(sums.sum() / self.frames.sum()), error_of_blocks(sums, self.frames)


def model_of(run: dict[str, Any]) -> str:
    """Return the name that the model of a run has in its blocks, which is no baseline's.

    >>> model_of({"blocks": {"VAR": [1], "RNNRNADE": [2], "frames": [3]}, "baselines": {"VAR": {}}})
    'RNNRNADE'
    """
    names = [key for key in run["blocks"] if key not in {FRAMES, *run.get("baselines", {})}]
    if len(names) != 1:
        raise ValueError(f"blocks of one model are wanted, not of {', '.join(names) or 'none'}")
    return names[0]


def in_pairs(
    blocks: dict[str, Blocks | None], digits: int = 2, higher: bool = True
) -> tuple[dict[str, list[str]], str | None]:
    """Return, by row, the standard error of a figure and how far it is above the first row's, with
    the error of that, and the row that is better than every other by more than two errors, if one
    is."""
    known = {name: b for name, b in blocks.items() if b is not None}
    cells = {name: ["", ""] for name in blocks}
    ours = next(iter(known.values()), None)
    for name, b in known.items():
        error = error_of_blocks(b.sums, b.frames)
        cells[name][0] = "" if math.isnan(error) else f"{error:.{digits}f}"
        if ours is not None and b is not ours:
            above, error = b.above(ours)
            cells[name][1] = f"{above:.{digits}f}" + (
                "" if math.isnan(error) else f" ± {error:.{digits}f}"
            )
    models = {name: b for name, b in known.items() if name != PROCESS}  # which none can pass
    for name, b in models.items():
        others = [other for other in models.values() if other is not b]
        if ahead(b.above(other) if higher else other.above(b) for other in others):
            return cells, name
    return cells, None
