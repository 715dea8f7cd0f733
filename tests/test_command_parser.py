"""The pages of help; what is said of mistakes is in ``test_options.py``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnade_lightning.__main__ import CLI, main
from rnade_lightning.command_parser import HELP


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "has", "lacks"),
    [
        ("fit", ("--optimizer", "--model.n_hidden", "--test_after_fit"), ()),
        ("test", ("--ckpt_path", "--trust", "--data.root"), ("--optimizer", "--test_after_fit")),
        ("validate", ("--ckpt_path",), ("--optimizer", "--model.n_hidden")),
        ("predict", ("--ckpt_path", "where predictions go"), ("--optimizer",)),
        ("prepare", ("--data.root",), ("--ckpt_path", "--trainer", "--model")),
    ],
)
def test_each_command_shows_its_own_options(
    command: str,
    has: tuple[str, ...],
    lacks: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    page = capsys.readouterr().out
    for option in has:
        assert option in page
    for option in lacks:
        assert option not in page


def test_every_command_that_takes_an_experiment_has_its_help() -> None:
    assert set(HELP) == set(CLI.subcommands())


@pytest.mark.slow
@pytest.mark.parametrize("command", HELP)
def test_help_alone_is_help_among_other_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pages = []
    for options in (["--help"], ["--data=MocapDataModule", "--help"]):
        with pytest.raises(SystemExit, match="0"):
            main([command, *options])
        pages.append(capsys.readouterr().out)
    assert pages[0] == pages[1]


@pytest.mark.slow
def test_help_does_not_wait_for_what_only_runs_need() -> None:
    late = ("wandb", "numba", "torchaudio")
    script = f"""
import sys
sys.argv = ["rnade", "fit", "--help"]
from rnade_lightning.console import run
try:
    run()
finally:
    print("imported:", [name for name in {late} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "imported: []" in done.stdout
