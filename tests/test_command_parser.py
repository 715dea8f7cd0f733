"""A command line without a command; what is said of other mistakes is in ``test_options.py``."""

from __future__ import annotations

import pytest

from rnade_lightning.__main__ import main
from rnade_lightning.functions import FUNCTIONS
from rnade_lightning.help_pages import HELP


@pytest.mark.parametrize("argv", [[], ["--seed_everything=3"], ["--config", "a.yaml"]])
def test_without_a_command_all_of_them_are_listed(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(argv)
    line = capsys.readouterr().err
    assert all(command in line for command in (*HELP, *FUNCTIONS))
    assert len(line.splitlines()) == 1
