"""The table after ``test`` has what the data declare beside what any data have."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch
from toy import DeclaringDataModule, options

from rnade_lightning.__main__ import main


@pytest.fixture(scope="module")
def rows(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    runs = tmp_path_factory.mktemp("runs")
    more = ("--data=toy.DeclaringDataModule", "--trainer.max_epochs=1")
    main(["fit", *options(root, runs, *more)])
    assert "half of the frames are made up" in next(runs.rglob("comparison.md")).read_text()
    with open(runs / "toy" / "version_0" / "comparison.csv") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_known_process_and_references_are_rows(
    rows: dict[str, dict[str, str]], root: Path
) -> None:
    assert list(rows) == [
        "RNNRNADE", "VAR(3)", "copy the last frame", "the process itself", "a flat guess",
    ]  # fmt: skip
    assert float(rows["a flat guess"]["log_prob"]) == -7
    assert rows["a flat guess"]["error_of_mean"] == ""
    frames = torch.cat(
        [x[3:] for _, x in DeclaringDataModule(str(root), window=16).sequences("test")]
    )
    error = frames.square().sum(-1).mean().item()  # of a process whose mean is 0
    assert float(rows["the process itself"]["error_of_mean"]) == pytest.approx(error)
    assert float(rows["the process itself"]["error_of_samples"]) == pytest.approx(error + 3)


@pytest.mark.slow
def test_bits_are_a_column_where_data_have_them(rows: dict[str, dict[str, str]]) -> None:
    for row in rows.values():
        assert float(row["bits_per_sample"]) == pytest.approx(-2 * float(row["log_prob"]))
