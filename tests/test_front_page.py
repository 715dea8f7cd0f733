"""Version and overview, without what they do not need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnade_lightning import front_page
from rnade_lightning.__main__ import CLI, main
from rnade_lightning.functions import FUNCTIONS


def test_every_command_is_listed() -> None:
    assert {*front_page.COMMANDS} == {*CLI.subcommands(), *FUNCTIONS}
    page = front_page.overview()
    assert all(f"  {name} " in page for name in front_page.COMMANDS)


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--help", "-h", "--version"])
def test_it_answers_at_once(option: str) -> None:
    """Nothing of Lightning is imported, which takes longer than all else."""
    code = f"""
import sys
from rnade_lightning import front_page
assert front_page.answered([{option!r}])
assert not {{"pytorch_lightning", "jsonargparse", "numba", "matplotlib"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "rnade" in done.stdout


def test_other_commands_are_left_to_lightning() -> None:
    for argv in ([], ["fit", "--help"], ["fit", "--version"], ["--config", "a.yaml"]):
        assert not front_page.answered(argv)


def test_the_module_answers_as_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    assert capsys.readouterr().out.startswith("rnade-lightning ")
