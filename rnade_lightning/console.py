"""Run the script ``rnade``, which answers at once what needs neither Lightning nor a model.

``python -m rnade_lightning`` runs the same commands.
"""

from __future__ import annotations

import sys

from rnade_lightning.front_page import answered
from rnade_lightning.functions import FUNCTIONS, call
from rnade_lightning.reader import to_a_reader


def run() -> None:
    """Run the command of this process."""
    with to_a_reader():
        match sys.argv[1:]:
            case [command, "-h" | "--help"] if command in FUNCTIONS:
                call(command, ["--help"])
            case argv if not answered(argv) and not _explained(argv):
                from rnade_lightning.__main__ import main

                main()


def _explained(argv: list[str]) -> bool:
    """Print the page of a command that runs an experiment, and return whether it was asked for."""
    if argv[1:] not in (["-h"], ["--help"]):
        return False
    from rnade_lightning.help_pages import explained

    return explained(argv)
