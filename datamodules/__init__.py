"""Data modules: files to batches of frames, and frames back to files."""

from datamodules.files import DataError
from datamodules.frames import FrameDataModule, FrameSequence
from datamodules.mocap import MocapDataModule

__all__ = ["DataError", "FrameDataModule", "FrameSequence", "MocapDataModule"]
