"""Output whose reader has gone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rnade_lightning.reader import to_a_reader


@pytest.mark.parametrize("program", ["rnade_lightning.console", "rnade_lightning.__main__"])
def test_a_command_that_nobody_reads_ends_without_a_word(program: str) -> None:
    out, into = os.pipe()
    os.close(out)
    start = "run" if program.endswith("console") else "main"
    command = [sys.executable, "-c", f"from {program} import {start}; {start}()", "fit", "--help"]
    ended = subprocess.run(command, stdout=into, stderr=subprocess.PIPE, timeout=120)
    os.close(into)
    assert (ended.returncode, ended.stderr) == (141, b"")


@pytest.mark.parametrize("error", [BrokenPipeError("another"), ValueError("a mistake")])
def test_what_else_goes_wrong_is_told(error: Exception, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error), match=str(error)), to_a_reader():
        raise error
