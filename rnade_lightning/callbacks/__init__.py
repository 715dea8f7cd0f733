"""Callbacks: what a run shows and keeps. Each is one file, and one line here.

A name imported as itself is part of the package, and is known by that name on the command line.
"""

from rnade_lightning.callbacks.averaging import AveragedWeights as AveragedWeights
from rnade_lightning.callbacks.coded_files import CodedFiles as CodedFiles
from rnade_lightning.callbacks.comparison import Comparison as Comparison
from rnade_lightning.callbacks.cosine_rate import CosineRate as CosineRate
from rnade_lightning.callbacks.disturbances import Disturbances as Disturbances
from rnade_lightning.callbacks.epoch_lines import EpochLines as EpochLines
from rnade_lightning.callbacks.gradient_check import GradientCheck as GradientCheck
from rnade_lightning.callbacks.gradient_check import GradientError as GradientError
from rnade_lightning.callbacks.last_checkpoint import BestCheckpoint as BestCheckpoint
from rnade_lightning.callbacks.last_checkpoint import LastCheckpoint as LastCheckpoint
from rnade_lightning.callbacks.last_checkpoint import TimeLimit as TimeLimit
from rnade_lightning.callbacks.likelihood import Likelihood as Likelihood
from rnade_lightning.callbacks.linear_start import LinearStart as LinearStart
from rnade_lightning.callbacks.predictions import PredictionWriter as PredictionWriter
from rnade_lightning.callbacks.random_state import RandomState as RandomState
from rnade_lightning.callbacks.run_card import RunCard as RunCard
from rnade_lightning.callbacks.sample_figures import SampleFigures as SampleFigures
from rnade_lightning.callbacks.samples import Samples as Samples
from rnade_lightning.callbacks.stable_path import StablePath as StablePath
