"""The pages of help of the commands."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnade_lightning.__main__ import CLI, main
from rnade_lightning.help_pages import HELP


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
    assert " CONFIG " not in page  # files of options are given to --config


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
    late = ("wandb", "numba", "torchaudio", "pytorch_lightning.cli")
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


@pytest.mark.slow
@pytest.mark.parametrize("command", ["fit", "sample"])
def test_a_page_is_of_the_program_that_was_called(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for called, name in (("/bin/rnade", "rnade"), ("__main__.py", "python -m rnade_lightning")):
        monkeypatch.setattr("sys.argv", [called])
        with pytest.raises(SystemExit, match="0"):
            main([command, "--help"])
        assert capsys.readouterr().out.startswith(f"usage: {name} {command}")
