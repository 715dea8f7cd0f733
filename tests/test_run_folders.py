"""Run folders are found again, and never shared."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rnade_lightning.run_folders import (
    claim,
    command_to_go_on,
    folder_of,
    good_beside,
    hold,
    note_job,
    of_requeued_job,
)


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(claim(tmp_path))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in found) == sorted(f"version_{i}" for i in range(20))


def test_a_checkpoint_elsewhere_is_of_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "runs" / "toy" / "version_3"
    (folder / "checkpoints").mkdir(parents=True)
    assert folder_of(str(folder / "checkpoints" / "last.ckpt")) is None  # another program's
    (folder / "config.yaml").touch()
    assert folder_of(str(folder / "checkpoints" / "last.ckpt")) == folder
    assert folder_of(str(folder / "last.ckpt")) is None
    monkeypatch.chdir(tmp_path)
    assert folder_of("runs/toy/version_3/checkpoints/a.ckpt") == Path("runs/toy/version_3")


def test_the_file_beside_a_damaged_one_is_named(tmp_path: Path) -> None:
    (tmp_path / ".7.best.ckpt").touch()  # of a process that was killed while it wrote
    assert good_beside(str(tmp_path / "last.ckpt")) is None
    (tmp_path / "best.ckpt").touch()
    (tmp_path / "last.ckpt").touch()
    assert good_beside(str(tmp_path / "last.ckpt")) == tmp_path / "best.ckpt"


def test_only_the_same_job_and_command_started_again_finds_its_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, folder = ["fit", "--seed_everything=1"], tmp_path / "version_0"
    folder.mkdir()
    for name, value in (("JOB_ID", "10"), ("NTASKS", "1"), ("JOB_NAME", "fit")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    note_job(folder, command)
    assert of_requeued_job(tmp_path, command) is None  # a second step of the job
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert of_requeued_job(tmp_path, command) == folder
    assert of_requeued_job(tmp_path, ["fit", "--seed_everything=2"]) is None
    monkeypatch.setenv("SLURM_JOB_ID", "11")
    assert of_requeued_job(tmp_path, command) is None
    monkeypatch.setenv("SLURM_JOB_ID", "10")
    (folder / "job.json").write_text("{")
    assert of_requeued_job(tmp_path, command) is None


def test_the_command_to_go_on_is_the_one_typed_from_another_checkpoint() -> None:
    command = ["fit", "--ckpt_path", "old.ckpt", "--data.root=my data"]
    found = command_to_go_on("rnade", command, Path("a b.ckpt"))
    assert found == "rnade fit '--data.root=my data' --ckpt_path 'a b.ckpt'"


def test_one_process_at_a_time_trains_in_a_folder(tmp_path: Path) -> None:
    waits = (
        "import sys; from pathlib import Path; from rnade_lightning.run_folders import hold;"
        "file = hold(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    pipe: Any = subprocess.PIPE
    other = subprocess.Popen(
        [sys.executable, "-c", waits, str(tmp_path)], stdin=pipe, stdout=pipe, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another process trains in it"):
            hold(tmp_path)
    finally:
        other.kill()  # and so lets go
        other.communicate()
    for _ in range(2):  # one process may train in it again
        with hold(tmp_path) as file:  # type: ignore[union-attr]
            assert not file.closed
