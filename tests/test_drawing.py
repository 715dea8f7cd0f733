"""Beginnings of ``sample``; what it draws and writes is in ``test_commands.py``."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from rnade_lightning.commands import SHIPPED
from rnade_lightning.datamodules.motion.steered import Way
from rnade_lightning.drawing import Beginning, beginning_of, draw_sequences, in_frames, load
from rnade_lightning.steering import steered
from tests.toy import ToyDataModule


@pytest.fixture
def data(tmp_path: Path) -> ToyDataModule:
    np.save(tmp_path / "a.npy", np.random.default_rng(0).normal(size=(40, 2)))
    data = ToyDataModule(str(tmp_path), window=10, cache_dir=str(tmp_path / "cache"))
    data.setup()
    return data


def test_a_length_is_told_in_frames_or_in_seconds(data: ToyDataModule) -> None:
    assert in_frames(data, None, None, "n", "s") is None
    assert in_frames(data, 7, None, "n", "s") == 7
    assert in_frames(data, None, 1.26, "n", "s") == 13  # of 10 frames a second
    with pytest.raises(ValueError, match="--n and --s tell the same length"):
        in_frames(data, 7, 1.0, "n", "s")
    for wrong in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="0 seconds or more"):
            in_frames(data, None, wrong, "n", "s")


def test_a_beginning_is_the_start_of_a_file_and_knows_its_rest(
    data: ToyDataModule, tmp_path: Path
) -> None:
    path = str(tmp_path / "a.npy")
    first = beginning_of(data, path, 15, "cpu")
    whole = data.score_input(path).frames
    assert first.rest is not None
    assert first.stem == "continuation_of_a"
    assert (first.frames[0] == whole[:15]).all()
    assert (first.rest.frames == whole[15:]).all()
    with pytest.raises(ValueError, match=r"a\.npy has 40 frames"):
        beginning_of(data, path, 41, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("continued", [False, True])
def test_the_shipped_body_walks_a_circle(continued: bool) -> None:
    """It turns by 45 degrees a second, and its root is modelled."""
    data, model = load(str(SHIPPED), "cpu", ())
    first = Beginning("sample", torch.zeros(1, 0, model.n_features))
    if continued:
        data.setup()
        first = beginning_of(data, f"{data.shipped}/35_04.bvh.gz", 30, "cpu")  # type: ignore[attr-defined]
    steer = steered(data, 1, 120, 150, [], "circle", first.rest)
    assert isinstance(steer.aim, Way)
    generator = torch.Generator().manual_seed(0)
    (frames,) = draw_sequences(data, model.eval(), first, steer, False, generator, 1.0)
    assert frames.shape == (120, model.n_features)
    whole = torch.cat((first.frames[0], frames))
    way, walked = steer.aim.placed(whole), data.places(whole)[:, 0, ::2]  # type: ignore[attr-defined]
    length = np.linalg.norm(np.diff(way, axis=0), axis=1).sum()
    assert np.linalg.norm(walked[-1] - way[-1]) < 0.04 * length
    assert np.linalg.norm(walked[-120:] - way, axis=1).max() < 0.06 * length
