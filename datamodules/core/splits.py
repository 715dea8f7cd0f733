"""Set training, validation and test parts apart, so that nothing leaks: the end of every sequence
(`tail`), whole files by a seeded shuffle (`whole_files`), or groups of files that belong together,
such as readings of one sentence (`whole_groups`).

Conventions:
    Fractions are of the frames of a sequence, or of the files or groups.
"""

from collections.abc import Sequence

import numpy as np

from rnade_lightning.datamodules.core import DataError


def tail(
    n_frames: int, val_fraction: float, test_fraction: float, warmup: int = 0
) -> dict[str, slice]:
    """Return the span of each part in one sequence; a part of fraction 0 is left out.

    A part of the end that is not longer than the warm-up has no frame that is scored: these frames
    stay with the part before them.

    >>> tail(10, val_fraction=0.1, test_fraction=0.2)
    {'train': slice(0, 7, None), 'val': slice(7, 8, None), 'test': slice(8, 10, None)}
    >>> tail(10, val_fraction=0.1, test_fraction=0.2, warmup=1)
    {'train': slice(0, 8, None), 'test': slice(8, 10, None)}
    """
    test = n_frames - round(n_frames * test_fraction)
    if test_fraction > 0 and not scores(n_frames - test, warmup):
        test = n_frames
    val = test - round(n_frames * val_fraction)
    if val_fraction > 0 and not scores(test - val, warmup):
        val = test
    spans = {"train": slice(0, val), "val": slice(val, test), "test": slice(test, n_frames)}
    return {part: span for part, span in spans.items() if span.start < span.stop}


def scores(n_frames: int, warmup: int) -> bool:
    """Tell whether a sequence has a frame that is scored: one past the warm-up."""
    return n_frames > warmup


def whole_files(n_files: int, val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """Return the part of each file. Every part with a fraction above 0 gets at least one file.

    Raises:
        DataError: Too few files.
    """
    n_test = max(round(n_files * test_fraction), 1) if test_fraction > 0 else 0
    n_val = max(round(n_files * val_fraction), 1) if val_fraction > 0 else 0
    n_train = n_files - n_test - n_val
    if n_train < 1:
        raise DataError(
            f"{n_files} files are too few for {n_test} of test, {n_val} of validation and one to"
            " train: add files, lower the fractions, or set split to tail"
        )
    labels = ["test"] * n_test + ["val"] * n_val + ["train"] * n_train
    order = np.random.default_rng([seed, n_files]).permutation(n_files)
    return [labels[i] for i in order]


def whole_groups(
    groups: Sequence[str], val_fraction: float, test_fraction: float, seed: int
) -> list[str]:
    """Return the part of each file, given the group of each. All files of a group are in one part.

    Fractions are those of the groups.

    Raises:
        DataError: Too few groups.
    """
    names = sorted(set(groups))
    try:
        parts = whole_files(len(names), val_fraction, test_fraction, seed)
    except DataError as error:
        if len(names) == len(groups):
            raise
        raise DataError(str(error).replace("files", "groups of files")) from None
    part_of = dict(zip(names, parts, strict=True))
    return [part_of[group] for group in groups]
