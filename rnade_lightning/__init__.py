"""The RNN-RNADE: an exact-likelihood generative model of audio and motion sequences."""

from rnade_lightning.components import Component
from rnade_lightning.densities import (
    Flow,
    Gaussian,
    GaussianMixture,
    LowRankGaussian,
    RNNDensity,
)
from rnade_lightning.density import FrameDensity
from rnade_lightning.ensemble import Ensemble
from rnade_lightning.recurrent_model import RecurrentModel
from rnade_lightning.rnade import RNADE
from rnade_lightning.rnn_rnade import RNNRNADE
from rnade_lightning.sequence_density import SequenceDensity

__all__ = [
    "RNADE",
    "RNNRNADE",
    "Component",
    "Ensemble",
    "Flow",
    "FrameDensity",
    "Gaussian",
    "GaussianMixture",
    "LowRankGaussian",
    "RNNDensity",
    "RecurrentModel",
    "SequenceDensity",
]
