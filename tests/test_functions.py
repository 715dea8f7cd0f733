"""Commands that are functions."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnade_lightning.__main__ import main
from rnade_lightning.functions import FUNCTIONS, call, function_of


@pytest.mark.parametrize("command", FUNCTIONS)
def test_every_command_is_found_where_it_is_said_to_be(command: str) -> None:
    function = function_of(command)
    assert (function.__module__, function.__name__) == (FUNCTIONS[command], command)


@pytest.mark.slow
@pytest.mark.parametrize("command", FUNCTIONS)
def test_a_page_is_the_same_with_lightnings_parser_and_without(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []
    for print_page in (lambda: call(command, ["--help"]), lambda: main([command, "--help"])):
        with pytest.raises(SystemExit, match="0"):
            print_page()
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1]
    assert "--ckpt_path" in pages[0]


@pytest.mark.slow
@pytest.mark.parametrize("command", ["sample", "score", "combine", "gradcheck"])
def test_a_page_does_not_wait_for_lightning(command: str) -> None:
    script = f"""
import sys
sys.argv = ["rnade", "{command}", "--help"]
from rnade_lightning.console import run
try:
    run()
finally:
    print("imported:", [name for name in ("pytorch_lightning", "numba") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "imported: []" in done.stdout
