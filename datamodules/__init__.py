"""Data modules: files of sound and motion to batches of frames, and frames back to files."""

from datamodules.arrays import ArrayDataModule
from datamodules.audio import AudioDataModule
from datamodules.balls import BallsDataModule
from datamodules.files import DataError
from datamodules.frames import FrameDataModule, FrameSequence
from datamodules.leaky import LeakyMocapDataModule
from datamodules.mocap import MocapDataModule
from datamodules.trajectory import TrajectoryDataModule

__all__ = [
    "ArrayDataModule",
    "AudioDataModule",
    "BallsDataModule",
    "DataError",
    "FrameDataModule",
    "FrameSequence",
    "LeakyMocapDataModule",
    "MocapDataModule",
    "TrajectoryDataModule",
]
