"""Progress without a terminal: a line an epoch, and no bar."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from toy import options

from rnade_lightning.__main__ import main


def lines_of(
    capsys: pytest.CaptureFixture[str], root: Path, runs: Path, *more: str
) -> tuple[list[str], str]:
    usual = [o for o in options(root, runs) if "progress_bar" not in o]
    capsys.readouterr()
    main(["fit", *usual, "--trainer.max_epochs=3", "--test_after_fit=false", *more])
    said = capsys.readouterr()
    text = said.out + said.err
    return re.findall(r"^epoch (\d): train/nll \S+, val/nll \S+, \S+ s$", text, re.M), text


@pytest.mark.slow
def test_output_to_a_file_gets_a_line_an_epoch(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    epochs, text = lines_of(capsys, root, tmp_path)
    assert epochs == ["1", "2", "3"]
    assert "\r" not in text
    assert "it/s" not in text
    assert (tmp_path / "toy" / "version_0" / "run.json").is_file()  # the other callbacks stay


@pytest.mark.slow
def test_lines_are_switched_off_as_the_bar_is(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lines_of(capsys, root, tmp_path, "--trainer.enable_progress_bar=false")[0] == []
