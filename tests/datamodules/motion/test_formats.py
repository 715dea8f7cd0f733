"""Every format of motion is told by its ending."""

from pathlib import Path

import pytest
from damaged import write_all

from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.formats import FORMATS, WRITERS
from rnade_lightning.datamodules.motion.skeleton import Motion


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_of_each_format_is_read(ending: str, tmp_path: Path) -> None:
    form = FORMATS[ending]
    files = [path for path in write_all(tmp_path).values() if path.name.endswith(ending)]
    names = {".npz": "amass.npz", ".npy": "joints.npy"}
    path = next(path for path in files if path.name == names.get(ending, path.name))
    rate = getattr(MocapDataModule(), form.rate)
    assert form.read(path, rate, None) is not None


def test_what_writes_a_format_reads_it_too(tmp_path: Path) -> None:
    motion = FORMATS[".npz"].read(write_all(tmp_path)["amass"], 20.0, None)
    assert isinstance(motion, Motion)
    for ending, write in WRITERS.items():
        write(tmp_path / f"again{ending}", motion)
        assert isinstance(FORMATS[ending].read(tmp_path / f"again{ending}", 20.0, None), Motion)
