"""Completion scripts know every command, and the options of all classes."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from rnade_lightning.front_page import COMMANDS, SHELLS

script = pytest.importorskip("rnade_lightning.completion").script


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_commands_and_options(shell: str) -> None:
    text = script(shell)
    for word in (*COMMANDS, "model.n_hidden", "data.root", "trainer.devices", "seconds"):
        assert word in text
    if program := shutil.which(shell):
        done = subprocess.run([program, "-n"], input=text, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
