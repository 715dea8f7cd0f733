"""The values that ranks have of their own, and the end of a run that has lost one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rnade_lightning.ranks import of_every_rank, of_this_rank

PARENT = """
import os, subprocess, sys, time
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from rnade_lightning.ranks import end_with_any
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(2);" + sys.argv[1]])
_ChildProcessObserver(os.getpid(), [child], 0.05).start()  # it kills without a line
end_with_any([child], lambda: "go on")
time.sleep(float(sys.argv[2]))
"""


def test_one_process_is_one_rank() -> None:
    assert of_every_rank({"a": 1}) == [{"a": 1}]
    assert of_this_rank([3]) == 3
    assert of_this_rank([3, 4]) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("child", "status", "said"),
    [
        ("import os; os.kill(os.getpid(), 9)", 1, "rank 1 has ended (SIGKILL); go on"),
        ("raise SystemExit(3)", 1, "rank 1 has ended (status 3); go on"),
        ("pass", 0, ""),
    ],
)
def test_a_lost_child_ends_its_parent(child: str, status: int, said: str) -> None:
    seconds = "5" if status == 0 else "900"
    done = subprocess.run(
        [sys.executable, "-c", PARENT, child, seconds], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == status
    assert said in done.stderr
