"""Training, validation and test parts, set apart so that nothing leaks.

Either the end of every sequence (`tail`): the first part trains, then comes validation, then the
test; or whole files by a seeded shuffle (`whole_files`); or groups of files that belong together,
such as readings of one sentence (`whole_groups`).
"""

from collections.abc import Sequence

import numpy as np

from rnade_lightning.datamodules.core.files import DataError


def tail(n_frames: int, val_fraction: float, test_fraction: float) -> dict[str, slice]:
    """Spans of one sequence by part; a part of fraction 0 is left out.

    >>> tail(10, val_fraction=0.1, test_fraction=0.2)
    {'train': slice(0, 7, None), 'val': slice(7, 8, None), 'test': slice(8, 10, None)}
    """
    test = n_frames - round(n_frames * test_fraction)
    val = test - round(n_frames * val_fraction)
    spans = {"train": slice(0, val), "val": slice(val, test), "test": slice(test, n_frames)}
    fractions = {"train": 1.0, "val": val_fraction, "test": test_fraction}
    return {part: span for part, span in spans.items() if fractions[part] > 0}


def whole_files(n_files: int, val_fraction: float, test_fraction: float, seed: int) -> list[str]:
    """The part of each file; every part of a fraction above 0 gets one at least.

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
    """The part of each file, given the group of each; the files of a group are in one part.

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


def check_length(n_frames: int, part: str, window: int, warmup: int) -> None:
    """Refuses a part that is too short to be used.

    Training needs one whole window, evaluation one frame past the warm-up.

    Raises:
        DataError: Too short; says what to do, for the caller to name the file.
    """
    need = max(window, warmup + 2) if part == "train" else warmup + 1
    if n_frames >= need:
        return
    remedy = "remove the file"
    if part != "train":
        remedy = f"raise {part}_fraction or {remedy}"
    elif n_frames >= warmup + 2:
        remedy = f"set window to {n_frames} or less, or {remedy}"
    raise DataError(f"only {n_frames} frames for {part} where {need} are needed: {remedy}")
