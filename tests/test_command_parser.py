"""The pages of help; what is said of mistakes is in ``test_options.py``."""

from __future__ import annotations

import pytest

from rnade_lightning.__main__ import main


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
