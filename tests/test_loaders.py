"""Every loader's output becomes the same batch, or is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from rnade_lightning.loaders import as_batch

FRAMES = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
MASK = torch.arange(6) < torch.tensor([[6], [4], [1], [5]])


def collated(data: Any) -> Any:
    (batch,) = DataLoader(data, len(FRAMES))
    return batch


@pytest.mark.parametrize(
    "data",
    [list(FRAMES), TensorDataset(FRAMES), [{"frames": x} for x in FRAMES], [[x] for x in FRAMES]],
    ids=["tensors", "tuples", "dicts", "lists"],
)
def test_without_a_mask_every_frame_is_valid(data: Any) -> None:
    batch = as_batch(collated(data))
    assert set(batch) == {"frames", "mask"}
    assert torch.equal(batch["frames"], FRAMES)
    assert batch["mask"].shape == (4, 6)
    assert batch["mask"].dtype == torch.bool
    assert batch["mask"].all()


@pytest.mark.parametrize(
    "data",
    [
        TensorDataset(FRAMES, MASK),
        [{"frames": x, "mask": m} for x, m in zip(FRAMES, MASK, strict=True)],
    ],
    ids=["tuples", "dicts"],
)
def test_a_mask_is_kept(data: Any) -> None:
    batch = as_batch(collated(data))
    assert torch.equal(batch["frames"], FRAMES)
    assert torch.equal(batch["mask"], MASK)


def test_a_batch_is_itself_and_what_is_given_stays_as_it_is() -> None:
    given = {"frames": FRAMES, "mask": MASK, "scored": MASK, "log_jacobian": MASK.double()}
    assert all(as_batch(given)[key] is value for key, value in given.items())
    given = {"frames": FRAMES}
    as_batch(given)
    assert set(given) == {"frames"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (FRAMES[0], r"gives a tensor \(6, 3\) torch.float64, .*give frames \(B, T, D\)"),
        ([FRAMES, FRAMES], r"gives a list of \(a tensor \(4, 6, 3\) .*mask \(B, T\) bool"),
        ((FRAMES, MASK.double()), r"a tensor \(4, 6\) torch.float64"),
        ((FRAMES, MASK[:, 1:]), r"a tensor \(4, 5\) torch.bool"),
        ((FRAMES, MASK, MASK), r"gives a tuple of"),
        ({"x": FRAMES}, r"gives a dict of \(x: a tensor"),
        ({"frames": [1.0]}, r"frames: a list"),
        ([], r"gives a list of \(\)"),
        ("frames", r"gives a str"),
        (None, r"gives a NoneType"),
    ],
)
def test_anything_else_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_batch(given)


def test_refusals_are_short() -> None:
    many: list[Tensor] = [FRAMES] * 1000
    with pytest.raises(ValueError, match="not a batch") as refused:
        as_batch(many)
    assert len(str(refused.value)) < 500
