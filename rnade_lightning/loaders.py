"""Turn what a loader gives into a batch of sequences, whether the loader is ours or any other.

Conventions:
    A batch is a dict: ``frames (B, T, D)``, ``mask (B, T)`` (valid frames, right padding), and
    ``scored (B, T)``, the valid frames that count (all of them if missing). A model that is given a
    context takes ``context (B, T, C)``, or ``(B, T, D, C)`` of every feature. Where frames are a
    transformation of the data, ``log_jacobian (B, T)`` is added to log p of each. With
    ``continues (B,)`` the rows so marked go on from the state in which the batch before left them
    (truncated back-propagation through time), the others start at u_0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Batch = dict[str, Tensor]


def as_batch(given: Any) -> Batch:
    """Return what a loader gives as a batch, the same one if it is one.

    Args:
        given: frames ``(B, T, D)``; a tuple or list of them alone, or of them and their mask
            ``(B, T)``, bool; or a dict with ``frames``. Without a mask every frame is valid.

    Raises:
        ValueError: anything else.
    """
    if isinstance(given, Mapping):
        batch = dict(given)
    elif isinstance(given, Tensor):
        batch = {"frames": given}
    elif isinstance(given, Sequence) and _are_frames_and_mask(given):
        batch = dict(zip(("frames", "mask"), given, strict=False))
    else:
        raise ValueError(_refusal(given))
    frames = batch.get("frames")
    if not isinstance(frames, Tensor) or frames.dim() != 3:
        raise ValueError(_refusal(given))
    if batch.get("mask") is None:
        batch["mask"] = torch.ones(frames.shape[:2], dtype=torch.bool, device=frames.device)
    return batch


def _are_frames_and_mask(given: Sequence[Any]) -> bool:
    """Return whether a sequence is frames alone, or frames and a mask. Something that may be
    targets is never taken for a mask."""
    if not 1 <= len(given) <= 2 or not all(isinstance(t, Tensor) for t in given):
        return False
    return len(given) == 1 or (
        given[1].dtype == torch.bool and given[1].shape == given[0].shape[:2]
    )


def _refusal(given: Any) -> str:
    return (
        f"the loader gives {_described(given)}, not a batch of sequences; give frames (B, T, D), "
        "(frames, mask) with mask (B, T) bool, or a dict with frames and, where there is padding, "
        "mask"
    )


def _described(given: Any) -> str:
    if isinstance(given, Tensor):
        return f"a tensor {tuple(given.shape)} {given.dtype}"
    if isinstance(given, Mapping):
        parts = [f"{key}: {_described(value)}" for key, value in list(given.items())[:5]]
        return f"a dict of ({', '.join(parts)})"
    if isinstance(given, tuple | list):
        return f"a {type(given).__name__} of ({', '.join(map(_described, given[:5]))})"
    return f"a {type(given).__name__}"
