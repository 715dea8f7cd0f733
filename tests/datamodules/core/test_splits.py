"""Parts are set apart so that nothing is in two of them and nothing is lost."""

import numpy as np
import pytest

from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.splits import scores, tail, whole_files, whole_groups


@pytest.mark.parametrize("n_frames", [1, 2, 7, 50, 333])
@pytest.mark.parametrize("warmup", [0, 3])
def test_ends_of_a_sequence_follow_each_other(n_frames: int, warmup: int) -> None:
    parts = tail(n_frames, 0.1, 0.2, warmup)
    frames = [t for span in parts.values() for t in range(n_frames)[span]]
    assert frames == list(range(n_frames))
    assert all(scores(s.stop - s.start, warmup) for part, s in parts.items() if part != "train")


def test_every_file_is_in_a_part_and_every_group_in_one() -> None:
    parts = whole_files(20, 0.1, 0.2, seed=1)
    assert [parts.count(part) for part in ("train", "val", "test")] == [14, 2, 4]
    assert parts == whole_files(20, 0.1, 0.2, seed=1) != whole_files(20, 0.1, 0.2, seed=2)
    groups = [str(i) for i in np.random.default_rng(0).integers(0, 8, 40)]
    of = {group: set() for group in groups}
    for group, part in zip(groups, whole_groups(groups, 0.2, 0.2, seed=0), strict=True):
        of[group].add(part)
    assert all(len(found) == 1 for found in of.values())
    with pytest.raises(DataError, match="2 groups of files are too few"):
        whole_groups(["a", "a", "b"], 0.2, 0.2, seed=0)
