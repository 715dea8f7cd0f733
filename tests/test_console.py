"""The script ``rnade``: what it answers itself, what it leaves to the command line."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from rnade_lightning import __main__, console


def ran(monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    monkeypatch.setattr(sys, "argv", ["rnade", *argv])
    console.run()


def test_it_answers_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(__main__, "main", pytest.fail)
    ran(monkeypatch, "--version")
    assert capsys.readouterr().out.startswith("rnade-lightning ")


def test_commands_are_those_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        ran(monkeypatch, "fitt")
    assert "fitt: no such command" in capsys.readouterr().err


@pytest.mark.parametrize("program", [console.run, __main__.main])
def test_completion_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: Any
) -> None:
    pytest.importorskip("shtab")
    monkeypatch.setattr(sys, "argv", ["rnade", "--print_completion", "bash"])
    program()
    assert "gradcheck" in capsys.readouterr().out


@pytest.mark.parametrize("program", [console.run, __main__.main])
def test_an_unknown_shell_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["rnade", "--print_completion", "fish"])
    with pytest.raises(SystemExit, match="2"):
        program()
    assert "bash, zsh, tcsh" in capsys.readouterr().err
