"""Options of `AudioDataModule`: which can be met, and which kind of frames they make."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any

from rnade_lightning.class_paths import find
from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.sound import kinds
from rnade_lightning.datamodules.sound.corpora import PATTERNS
from rnade_lightning.datamodules.sound.kinds import Kind
from rnade_lightning.datamodules.sound.preparation import GAINS, MOST_BITS, SIDES
from rnade_lightning.datamodules.sound.soundfiles import SAMPLE_RATES

_SIZES = (
    "frame_length", "predictor_order", "n_fft", "win_length", "hop_length", "n_mels", "n_mfcc",
)  # fmt: skip


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options of `AudioDataModule` that cannot be met, whatever the files and the kind."""
    for name in _SIZES:
        if options[name] is not None and options[name] < 1:
            raise DataError(f"{name} must be 1 or more")
    n_fft, hop_length, channel = (options[k] for k in ("n_fft", "hop_length", "channel"))
    win_length = options["win_length"] or n_fft
    sample_rate, bit_depth = options["sample_rate"], options["bit_depth"]
    trim_db, dataset = options["trim_db"], options["dataset"]
    least, most = SAMPLE_RATES
    if not 0 < options["forgetting"] < 1:
        raise DataError("forgetting must be between 0 and 1")
    if sample_rate is not None and not least <= sample_rate <= most:
        raise DataError(f"sample_rate must be between {least} and {most} samples a second")
    if win_length > n_fft or hop_length > win_length:
        raise DataError("win_length must be at most n_fft, and hop_length at most win_length")
    if options["n_mfcc"] > options["n_mels"]:
        raise DataError(
            f"n_mfcc {options['n_mfcc']} is more than n_mels {options['n_mels']}: lower it"
        )
    named = channel == "mix" or channel in SIDES
    if not named and (not isinstance(channel, int) or isinstance(channel, bool) or channel < 0):
        raise DataError("channel must be mix, left, right, or a number from 0")
    if options["normalise"] not in (None, *GAINS):
        raise DataError(f"normalise must be {' or '.join(GAINS)}, or left out")
    if bit_depth is not None and not 2 <= bit_depth <= 32:
        raise DataError("bit_depth must be between 2 and 32")
    if trim_db is not None and not trim_db > 0:
        raise DataError("trim_db must be above 0")
    if dataset is not None and dataset not in PATTERNS:
        raise DataError(f"dataset {dataset} is none of {', '.join(sorted(PATTERNS))}")


def make_kind(name: str, options: Mapping[str, Any]) -> Kind:
    """Return a kind of frames with those options that its class takes.

    Args:
        name: short name (a file of the package `kinds`), or path of a class.
        options: options of the data module by name.

    Raises:
        DataError: there is no such kind (the message lists the short names), it is not complete,
            it takes an option that does not exist, or an option contradicts it.
    """
    try:
        kind = find(name, Kind, kinds.__name__)  # type: ignore[type-abstract]
    except ValueError as error:
        raise DataError(str(error)) from None
    if lacking := sorted(kind.__abstractmethods__):
        raise DataError(f"kind {name} does not define {lacking[0]}, which every kind needs")
    defaults = {p.name: p.default for p in signature(kind).parameters.values()}
    taken = {option: options.get(option, default) for option, default in defaults.items()}
    if unknown := [option for option, value in taken.items() if value is Parameter.empty]:
        raise DataError(f"kind {name} takes {unknown[0]}, which is no option: give it a default")
    made = kind(**taken)
    _check_kind(name, made, options)
    return made


def _check_kind(name: str, kind: Kind, options: Mapping[str, Any]) -> None:
    """Refuse options of the data module that contradict the kind of frames."""

    def refuse(given: tuple[str, ...], why: str) -> None:
        if found := [option for option in given if options.get(option)]:
            raise DataError(f"kind {name} {why}: leave {' and '.join(found)} out")

    if kind.of_integers:
        refuse(("control", "ignore"), "models every integer of a frame")
        if (options.get("bit_depth") or 0) > MOST_BITS:
            raise DataError(
                f"kind {name} takes integers of {MOST_BITS} bits at most: set bit_depth to that or"
                " less"
            )
    if kind.side_names:
        told = "tells a model what is known of every feature"
        refuse(("labels", "control", "control_files"), told)
