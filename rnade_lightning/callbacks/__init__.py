"""What a run shows: likelihoods, gradient checks, samples, and what checkpoints need besides."""

from rnade_lightning.callbacks.averaging import AveragedWeights
from rnade_lightning.callbacks.comparison import Comparison
from rnade_lightning.callbacks.gradient_check import GradientCheck, GradientError
from rnade_lightning.callbacks.likelihood import Likelihood
from rnade_lightning.callbacks.predictions import PredictionWriter
from rnade_lightning.callbacks.random_state import RandomState
from rnade_lightning.callbacks.run_card import RunCard
from rnade_lightning.callbacks.samples import Samples

__all__ = [
    "AveragedWeights",
    "Comparison",
    "GradientCheck",
    "GradientError",
    "Likelihood",
    "PredictionWriter",
    "RandomState",
    "RunCard",
    "Samples",
]
