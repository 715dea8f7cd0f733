"""Files of a run are whole at every moment, and rows of metrics are neither lost nor doubled."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from rnade_lightning.run_files import MetricsFile, WholeCheckpoints, going_without, replace_file


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path, n_rows: int | None = None) -> MetricsFile:
    logger = MetricsFile(str(folder))
    logger.place(folder, n_rows)
    return logger


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    replace_file(path, lambda file: file.write(b"old"))

    def fail(file: BinaryIO) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left") as error:
        replace_file(path, fail)
    assert error.value.filename == str(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
    said = "the tale cannot be written .*a.txt.*No space left"
    with pytest.warns(UserWarning, match=said), going_without("the tale"):
        replace_file(path, fail)


def test_a_checkpoint_is_written_beside_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Path, Path]] = []
    rename = os.replace

    def replace(source: Any, target: Any) -> None:
        seen.append((Path(source), Path(target)))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"epoch": 3}, path)
    assert torch.load(path, weights_only=True) == {"epoch": 3}
    ((source, target),) = seen
    assert (source.parent, target) == (path.parent, path)
    assert source.name[0] == "."  # which nobody takes for a checkpoint


def test_rows_behind_a_checkpoint_are_dropped_and_others_kept(tmp_path: Path) -> None:
    logger = metrics(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()
    logger.log_metrics({"b": torch.tensor(2.0)}, 1)
    assert logger.n_rows == 2
    logger.log_metrics({"a": 3.0}, 2)
    logger.finalize("failed")
    assert [row["step"] for row in rows(tmp_path)] == ["0", "1", "2"]
    again = metrics(tmp_path, n_rows=2)
    again.log_metrics({"a": 4.0, "c": 5.0}, 2)
    again.finalize("success")
    found = rows(tmp_path)
    assert [row["a"] for row in found] == ["1.0", "", "4.0"]
    assert [row["b"] for row in found] == ["", "2.0", ""]
    assert found[2]["c"] == "5.0"
    assert metrics(tmp_path).n_rows == 3  # all are kept where nothing else is said


def test_a_row_that_was_cut_by_a_kill_is_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("a,step\n1.0,0\n2.0,1\n3.")
    logger = metrics(tmp_path)
    assert logger.n_rows == 2
    logger.log_metrics({"a": 9.0}, 2)
    logger.save()
    assert [row["a"] for row in rows(tmp_path)] == ["1.0", "2.0", "9.0"]


def test_rows_wait_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = metrics(tmp_path)
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()

    def full(file: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("rnade_lightning.run_files.os.fsync", full)
        logger.log_metrics({"a": 2.0}, 1)
        with pytest.warns(UserWarning, match="metrics.csv cannot be written: No space left"):
            logger.save()
        assert len(rows(tmp_path)) == 1
    logger.save()
    assert [row["a"] for row in rows(tmp_path)] == ["1.0", "2.0"]
