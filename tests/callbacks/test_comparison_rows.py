"""Rows against numbers that are known: errors are of pairs, and bold needs two of them."""

import math

import pytest
import torch

from rnade_lightning.callbacks.comparison_rows import (
    PROCESS,
    Row,
    Sums,
    block_of,
    blocks_of,
    cell,
    columns_of,
    errors_of,
    leader_of,
    rows_of,
)


def sums_of(*sequences: torch.Tensor) -> Sums:
    sums = Sums()
    for log_p in sequences:
        none = torch.zeros(len(log_p), dtype=torch.bool)
        for i, piece in enumerate(log_p.split(30)):
            sums.add(piece, none[: len(piece)], None, i == 0)
    return sums


@pytest.fixture
def table() -> dict[str, Sums]:
    """Ours, a rival 0.1 below it on every frame but for some noise, and the process."""
    generator = torch.Generator().manual_seed(0)
    ours = [10 * torch.randn(n, generator=generator) for n in (200, 300)]
    near = [x - 0.1 + 0.5 * torch.randn(len(x), generator=generator) for x in ours]
    return {
        "ours": sums_of(*ours),
        "near": sums_of(*near),
        PROCESS: sums_of(*(x + 1 for x in ours)),
    }


def test_differences_are_of_the_same_frames(table: dict[str, Sums]) -> None:
    ours, near, process = rows_of(table, 5, set())
    assert math.isnan(ours.difference)
    assert ours.log_prob_error > 0.3  # 10 / sqrt(500), which hides a difference of 0.1
    assert near.difference == pytest.approx(-0.1, abs=0.06)
    assert near.difference_error == pytest.approx(0.5 / math.sqrt(500), rel=0.2)
    assert process.difference == pytest.approx(1)
    assert process.difference_error == pytest.approx(0, abs=1e-6)
    assert near.log_prob == pytest.approx(ours.log_prob + near.difference)
    alone = rows_of(table, 5, {"near"})[1]
    assert math.isnan(alone.difference)
    assert not math.isnan(alone.log_prob_error)


def test_the_leader_is_ahead_by_two_errors_of_the_pairs(table: dict[str, Sums]) -> None:
    assert leader_of(table, 5, set()) == "ours"
    noise = 3 * torch.randn(500, generator=torch.Generator().manual_seed(1))
    noise -= noise.mean() + 0.1
    parts = zip(table["ours"].values, noise.split([200, 300]), strict=True)
    table["near"] = sums_of(*(x + e for x, e in parts))
    assert rows_of(table, 5, set())[1].difference == pytest.approx(-0.1, abs=1e-5)
    assert leader_of(table, 5, set()) is None  # 0.1, with an error of 0.13
    assert leader_of(table, None, set()) is None  # two blocks have no error


def test_frames_that_break_a_relation_have_no_part_in_errors() -> None:
    sums, log_p = Sums(), torch.randn(100)
    breaks = torch.arange(100) >= 80
    sums.add(log_p, breaks, None, True)
    (row,) = rows_of({"ours": sums}, 2, set())
    assert row.log_prob == -math.inf
    assert row.log_prob_of_others == pytest.approx(log_p[:80].mean().item())
    assert row.log_prob_error > 0
    assert cell("log_prob", row) == "-inf"
    assert "±" in cell("log_prob_of_others", row)


def test_blocks_add_up_to_the_rows(table: dict[str, Sums]) -> None:
    head, *blocks = blocks_of(table, 30, {"near"})
    assert head == ["frames", "ours", PROCESS]
    frames, ours, process = (sum(column) for column in zip(*blocks, strict=True))
    assert frames == 500
    assert ours / frames == pytest.approx(rows_of(table, 30, set())[0].log_prob)
    assert process - ours == pytest.approx(500, abs=1e-3)


def test_it_is_said_when_there_are_too_few_blocks(table: dict[str, Sums]) -> None:
    assert "bootstrap of 100 blocks of 5 frames" in errors_of(table["ours"], 5)
    assert "2 whole files are too few, 10 are needed" in errors_of(table["ours"], None)
    assert "±" not in cell("log_prob", rows_of(table, None, set())[0])


def test_columns_that_hold_nothing_are_left_out() -> None:
    row = Row("ours", 1.0, math.nan, 2.0, 3.0, math.nan)
    assert columns_of([row])[0] == ["name", "log_prob", "error_of_samples", "error_of_mean"]
    assert cell("error_of_mean", row) == "3.00"
    assert cell("bits_per_sample", row._replace(bits_per_sample=1.5)) == "1.500"


@pytest.mark.parametrize(
    ("seconds", "rate", "n"), [(1.0, 30.0, 30), (1.0, 1.0, 10), (None, 80.0, None)]
)
def test_a_block_is_a_second_of_frames(seconds: float | None, rate: float, n: int | None) -> None:
    data = type("Data", (), {"error_seconds": seconds, "frame_rate": rate})
    assert block_of(data) == n  # type: ignore[arg-type]
