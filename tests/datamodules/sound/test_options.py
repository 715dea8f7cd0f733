"""Options of sound that cannot be met."""

from typing import Any

import pytest
from sounds import audio_module

from rnade_lightning.datamodules import DataError


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"hop_length": 0}, "hop_length must be 1 or more"),
        ({"hop_length": 2000}, "hop_length at most win_length"),
        ({"win_length": 2000}, "win_length must be at most n_fft"),
        ({"n_mfcc": 100}, "n_mfcc 100 is more than n_mels 80"),
        ({"sample_rate": 10}, "sample_rate must be between"),
        ({"channel": -1}, "channel must be"),
        ({"channel": "middle"}, "channel must be mix, left, right, or a number"),
        ({"bit_depth": 33}, "bit_depth must be"),
        ({"trim_db": 0.0}, "trim_db must be"),
        ({"dataset": "NOISE"}, "dataset NOISE is none of CMUARCTIC"),
        ({"predictor_order": 0}, "predictor_order must be 1 or more"),
        ({"forgetting": 1.0}, "forgetting must be between 0 and 1"),
        ({"kind": "residual", "split": "tail"}, "from a file's start on: set split to file"),
        ({"group": "a["}, r"group 'a\[' is no regular expression"),
    ],
)
def test_arguments_that_cannot_be_met_are_refused(kwargs: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        audio_module(None, **kwargs)
