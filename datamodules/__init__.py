"""Data modules: files of sound and motion to batches of frames, and frames back to files."""

from rnade_lightning.datamodules.core.arrays import ArrayDataModule
from rnade_lightning.datamodules.core.files import DataError
from rnade_lightning.datamodules.core.frames import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core.recording import Recording
from rnade_lightning.datamodules.motion.leaky import LeakyMocapDataModule
from rnade_lightning.datamodules.motion.mocap import MocapDataModule
from rnade_lightning.datamodules.simulated.balls import BallsDataModule
from rnade_lightning.datamodules.simulated.trajectory import TrajectoryDataModule
from rnade_lightning.datamodules.sound.audio import AudioDataModule

__all__ = [
    "ArrayDataModule",
    "AudioDataModule",
    "BallsDataModule",
    "DataError",
    "FrameDataModule",
    "FrameSequence",
    "LeakyMocapDataModule",
    "MocapDataModule",
    "Recording",
    "TrajectoryDataModule",
]
