"""The wheel is whole: a process that has it alone scores and samples a pretrained folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from misfits import trained, walks

from rnade_lightning.lightning_module import SequenceModule

ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "rnade_lightning", "datamodules", "configs")


def test_version_and_date_are_alike_wherever_they_stand() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    heading = f"## [{version}] - {citation['date-released']}"
    latest = re.search(r"^## \[\d.*$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation["version"] == version
    assert latest is not None
    assert latest[0] == heading


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the wheel, built without a network from a copy of the sources."""
    pytest.importorskip("setuptools", "77", reason="pip install -e '.[dev]'")
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, copy / name)
    build = ["-m", "build", "--wheel", "--no-isolation", "--outdir", copy / "dist", copy]
    done = subprocess.run([sys.executable, *build], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (found,) = (copy / "dist").glob("*.whl")
    return found


@pytest.mark.slow
def test_it_holds_what_the_sources_hold(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    found = {
        path.relative_to(top.parent).as_posix()
        for top in (ROOT / "rnade_lightning", ROOT / "datamodules", ROOT / "configs")
        for path in top.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    linked = {
        name if name.startswith("rnade_lightning/") else f"rnade_lightning/{name}" for name in found
    }
    assert held - linked == set()
    assert linked - held == set()


@pytest.mark.slow
def test_a_pretrained_folder_is_scored_and_sampled_with_it_alone(
    wheel: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    SequenceModule.load_from_checkpoint(trained(tmp_path)).save_pretrained(elsewhere / "model")
    np.save(elsewhere / "take.npy", walks()[0])
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def process(*args: str) -> str:
        done = subprocess.run(
            [sys.executable, *args], cwd=elsewhere, env=env,
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    place = process("-c", "import rnade_lightning; print(rnade_lightning.__file__)")
    assert place.startswith(str(tmp_path / "site"))
    scores = process("-m", "rnade_lightning", "score", "--ckpt_path=model", "--files=take.npy")
    log_p = np.genfromtxt(scores.splitlines(), delimiter=",", names=True, dtype=None, encoding=None)
    assert np.isfinite(log_p["log_prob"]).all()
    process("-m", "rnade_lightning", "sample", "--ckpt_path=model", "--n_frames=12", "--out=drawn")
    assert list((elsewhere / "drawn").iterdir())
