"""Errors and scores against numbers that are known."""

import math

import pytest
import torch

from rnade_lightning.scoring import LEAST_BLOCKS, ahead, block_sums, energy_score, standard_error


def ar_1(n: int, phi: float, generator: torch.Generator) -> torch.Tensor:
    """Return a stationary AR(1) process of variance 1."""
    noise = torch.randn(n, generator=generator, dtype=torch.float64)
    values = [noise[0].item()]
    for e in (math.sqrt(1 - phi**2) * noise[1:]).tolist():
        values.append(phi * values[-1] + e)
    return torch.tensor(values, dtype=torch.float64)


def test_of_independent_frames_it_is_the_deviation_over_the_root_of_n() -> None:
    generator = torch.Generator().manual_seed(1)
    values = 3 * torch.randn(4000, generator=generator, dtype=torch.float64)
    assert standard_error([values], 1) == pytest.approx(3 / math.sqrt(4000), rel=0.05)
    assert standard_error([values], 10) == pytest.approx(3 / math.sqrt(4000), rel=0.1)


def test_of_an_ar_1_process_it_is_that_of_its_sums() -> None:
    phi, n, b = 0.8, 20_000, 100
    values = ar_1(n, phi, torch.Generator().manual_seed(2))
    of_block = b + 2 * sum((b - k) * phi**k for k in range(1, b))  # variance of a block's sum
    expected = math.sqrt(of_block * n / b) / n
    assert expected == pytest.approx(math.sqrt((1 + phi) / (1 - phi) / n), rel=0.05)
    assert standard_error([values], b) == pytest.approx(expected, rel=0.12)
    assert standard_error([values], 1) < 0.5 * expected  # which single frames do not show


def test_blocks_end_with_their_sequence_and_may_be_whole_ones() -> None:
    sequences = [torch.arange(5.0), torch.ones(2), torch.zeros(0)]
    sums, counts = block_sums(sequences, 3)
    assert (sums.tolist(), counts.tolist()) == ([3, 7, 2], [3, 2, 2])
    sums, counts = block_sums(sequences, None)
    assert (sums.tolist(), counts.tolist()) == ([10, 2], [5, 2])


def test_the_error_of_a_difference_is_that_of_pairs() -> None:
    generator = torch.Generator().manual_seed(3)
    shared = 10 * torch.randn(1000, generator=generator)
    own = torch.randn(1000, generator=generator)
    alone, paired = standard_error([shared], 5), standard_error([shared + own - shared], 5)
    assert paired == pytest.approx(1 / math.sqrt(1000), rel=0.15)
    assert alone > 5 * paired
    assert standard_error([own], 5) == standard_error([own], 5)


def test_too_few_blocks_and_values_that_are_not_finite_have_none() -> None:
    values = torch.randn(10 * LEAST_BLOCKS)
    assert math.isfinite(standard_error([values], 10))
    assert math.isnan(standard_error([values[:-10]], 10))
    values[7] = -math.inf
    assert math.isnan(standard_error([values], 10))


@pytest.mark.parametrize("x", [0.0, 0.7, -3.0])
def test_the_energy_score_of_a_gaussian_is_its_closed_form(x: float) -> None:
    """|y - x| has a known mean, and |y - y'| is 2 / sqrt(pi) (Gneiting and Raftery 2007)."""
    mu, sigma, n = 0.5, 1.5, 40_000
    generator = torch.Generator().manual_seed(4)
    draws = mu + sigma * torch.randn(5, n, 1, generator=generator, dtype=torch.float64)
    z = torch.tensor((x - mu) / sigma, dtype=torch.float64)
    phi, Phi = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi), torch.special.ndtr(z)
    expected = sigma * (z * (2 * Phi - 1) + 2 * phi - 1 / math.sqrt(math.pi))
    scores = energy_score(draws, torch.full((n, 1), x, dtype=torch.float64))
    error = scores.std().item() / math.sqrt(n)
    assert scores.mean().item() == pytest.approx(expected.item(), abs=4 * error)


def test_it_is_proper_where_the_squared_error_is_not() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(20_000, 3, generator=generator)
    right, narrow = (s * torch.randn(10, 20_000, 3, generator=generator) for s in (1.0, 0.3))
    assert energy_score(right, x).mean() < energy_score(narrow, x).mean() - 0.05
    squares = [(draws - x).square().sum(-1).mean() for draws in (right, narrow)]
    assert squares[0] > squares[1]


def test_a_draw_that_is_far_away_leaves_the_digits_of_the_others() -> None:
    """The score of draws 0, 1 and R of a frame 0 is 1 / 3 however large R is, as the limit is."""
    for far in (10.0, 1e6, 1e15):
        draws = torch.tensor([0.0, 1.0, far])[:, None, None]
        assert energy_score(draws, torch.zeros(1, 1)).item() == pytest.approx(1 / 3, rel=1e-5)
    draws = torch.randn(4, 5, 2)
    assert energy_score(draws[:1].expand(4, 5, 2), draws[0]).abs().max() == 0


def test_one_draw_has_no_energy_score() -> None:
    found = energy_score(torch.zeros(1, 4, 2), torch.zeros(4, 2))
    assert found.shape == (4,)
    assert found.isnan().all()


def test_ahead_is_above_every_other_by_more_than_two_errors() -> None:
    assert ahead([(2.1, 1.0), (5.0, 0.1)])
    assert not ahead([(2.1, 1.0), (0.1, 0.1)])
    assert not ahead([(9.0, math.nan)])
    assert not ahead([])
