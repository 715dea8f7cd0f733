"""Keep tests quiet and offline, and keep the person's own settings and disk out of them."""

import atexit
import os
import shutil
import tempfile

os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
os.environ["MPLBACKEND"] = "Agg"
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="rnade-cache-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)

import torch  # noqa: E402

torch.set_num_threads(1)  # small sizes: a second thread costs more than it brings


from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import pytest  # noqa: E402

TRAINING = {"checkpoint", "fit", "folder", "page", "run"}
"""Fixtures that train: what uses one is slow."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if TRAINING & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


# The fixtures import what they need: most tests need none of it.


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of toy data."""
    from toy import write_toy_data

    return write_toy_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def fit(root: Path, tmp_path: Path) -> Callable[..., Path]:
    """Run ``fit`` and return the run folder."""
    from toy import options

    from rnade_lightning.__main__ import main

    def run(*more: str, name: str = "a") -> Path:
        main(["fit", *options(root, tmp_path / name, "--trainer.max_epochs=2", *more)])
        return tmp_path / name / "toy" / "version_0"

    return run


@pytest.fixture(scope="module")
def checkpoint(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the best checkpoint of a run of one epoch."""
    from toy import options

    from rnade_lightning.__main__ import main

    runs = tmp_path_factory.mktemp("runs")
    main(["fit", *options(root, runs, "--trainer.max_epochs=1")])
    return runs / "toy" / "version_0" / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run with all loggers, which made pictures in its first epoch too."""
    from toy import process, write_toy_data
    from wandb_run import arguments

    tmp = tmp_path_factory.mktemp("wandb")
    write_toy_data(tmp / "data")
    schedule = ("--trainer.callbacks+=Samples", "--trainer.callbacks.every_n_epochs=1")
    process("fit", *arguments(tmp / "runs", *schedule))
    return tmp / "runs"


@pytest.fixture(scope="session")
def run(folder: Path) -> Any:
    """Return the W&B run of that folder."""
    from wandb_run import offline_runs

    (found,) = offline_runs(folder)
    return found
