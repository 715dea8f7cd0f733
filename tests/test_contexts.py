"""Contexts go to models, behind frames, and on for longer than they were recorded."""

import torch

from rnade_lightning.contexts import argument, lasting, of_sequences
from rnade_lightning.datamodules import FrameSequence
from rnade_lightning.datamodules.core.given import joined


def test_absent_numbers_stand_as_0_behind_frames() -> None:
    frames, context = torch.ones(3, 2), torch.tensor([[1.0, torch.nan]] * 3)
    assert joined(frames, None) is frames
    assert torch.equal(joined(frames, context), torch.tensor([[1.0, 1.0, 1.0, 0.0]] * 3))
    assert argument(None) == {}
    assert argument(context) == {"context": context}


def test_contexts_of_sequences_begin_again_where_they_end() -> None:
    contexts = [torch.arange(2.0)[:, None], torch.arange(3.0)[:, None]]
    found = [FrameSequence("", torch.zeros(len(c), 1), torch.zeros(1), context=c) for c in contexts]
    both = of_sequences(found, 4, torch.zeros(1, dtype=torch.float64))
    assert both is not None
    assert both.dtype == torch.float64
    assert both[..., 0].tolist() == [[0, 1, 0, 1], [0, 1, 2, 0]]
    assert torch.equal(lasting(contexts[1], 2), contexts[1][:2])
    assert of_sequences([FrameSequence("", torch.zeros(1, 1), torch.zeros(1))], 4, both) is None
