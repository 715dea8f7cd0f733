"""The RNN-RNADE: an exact-likelihood generative model of audio and motion sequences."""

from rnade_lightning.density import FrameDensity
from rnade_lightning.rnade import RNADE
from rnade_lightning.rnn_rnade import RNNRNADE
from rnade_lightning.sequence_model import SequenceModel

__all__ = ["RNADE", "RNNRNADE", "FrameDensity", "SequenceModel"]
