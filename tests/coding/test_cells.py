"""Cells hold the samples, their masses are a code length, and pieces are the whole."""

from __future__ import annotations

import numpy as np
import torch

from rnade_lightning.coding import cells
from rnade_lightning.datamodules.sound import front_end
from rnade_lightning.kernels import experts
from rnade_lightning.rnn_experts import RNNExperts

NONE = np.zeros(0)


def weights() -> experts.Weights:
    torch.manual_seed(0)
    return experts.weights_of(RNNExperts(4, 5, 8, 3, 6))


def walk(n: int) -> np.ndarray:
    return np.round(np.cumsum(np.random.default_rng(0).normal(size=n) * 20))


def test_pieces_and_whole_are_the_same_to_the_bit() -> None:
    W, x = weights(), walk(5000)
    whole = cells.ends(front_end.start(), experts.start(W), W, x, NONE, NONE)
    state = front_end.start(), experts.start(W), W
    pieces = [cells.ends(*state, piece, NONE, NONE) for piece in np.split(x, [3, 1111])]
    for k, of_whole in enumerate(whole):
        assert np.array_equal(
            np.concatenate([piece[k] for piece in pieces]), of_whole, equal_nan=True
        )


def test_the_bank_learns_a_constant_and_a_law_of_chance() -> None:
    def bits(x: np.ndarray) -> float:
        W = experts.NO_NET
        found = cells.ends(front_end.start(), experts.start(W), W, x, NONE, NONE)
        return float(-np.log2(np.maximum(found[2] - found[1], 2.0**-24))[2000:].sum(1).mean())

    assert bits(np.full(4000, 7.0)) < 0.01
    laplace = np.round(np.random.default_rng(0).laplace(size=20_000) * 40)
    p = np.abs(np.arange(-2000, 2001))
    exact = np.exp(-p / 40) / np.exp(-p / 40).sum()
    assert bits(laplace) < -(exact * np.log2(exact)).sum() + 0.07


def test_wide_cells_hold_the_samples_in_them() -> None:
    x = np.random.default_rng(0).integers(-(2**23), 2**23, 3000).astype(float)
    W = experts.NO_NET
    state = front_end.start(), experts.start(W), W
    symbol, low, high, plain, n_plain = cells.ends(*state, x, NONE, NONE)
    told = ~np.isnan(symbol)
    assert told[100:, 1].mean() > 0.99  # in two symbols
    assert (plain < 2.0**n_plain).all()
    assert (high >= low).all()
    assert np.abs(symbol[told]).max() <= cells.CELLS
    bits = n_plain - np.log2(np.maximum(high - low, 2.0**-24)).sum(1)
    assert abs(bits[1000:].mean() - 24) < 0.1


def test_what_is_predicted_exactly_costs_little_where_the_scale_is_wide() -> None:
    saw = np.round((np.arange(12_000) * 110 / 48_000 % 1 - 0.5) * 2**22)
    W = experts.NO_NET
    state = front_end.start(), experts.start(W), W
    _, low, high, _, n_plain = cells.ends(*state, saw, NONE, NONE)
    bits = n_plain - np.log2(np.maximum(high - low, 2.0**-24)).sum(1)
    assert bits[4000:].mean() < 9
