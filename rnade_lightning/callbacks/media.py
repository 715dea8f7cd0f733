"""Give numbers, tables and files to every logger, as far as it holds them.

    logger         numbers  tables           files, by their ending
    W&B            yes      Table            .png Image, .gif Video, .wav Audio, .html Html
    TensorBoard    yes      text (Markdown)  .png and .gif picture, .wav sound
    CSV, others    yes      no               no

What no logger holds is in the run folder all the same. All goes through the logger's own methods at
the trainer's step, from the first process only.
"""

from __future__ import annotations

import wave
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

KINDS = {".png": "image", ".gif": "video", ".wav": "audio", ".html": "html"}


def log_numbers(trainer: pl.Trainer, numbers: Mapping[str, float]) -> None:
    """Log numbers by key, to every logger."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(dict(numbers), trainer.global_step)


def log_table(
    trainer: pl.Trainer, key: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Log a table, to the loggers that have tables."""
    data = [list(row) for row in rows]
    for logger in _loggers(trainer):
        if isinstance(logger, WandbLogger):
            logger.log_table(key, columns=list(columns), data=data, step=trainer.global_step)
        elif isinstance(logger, TensorBoardLogger):
            text = markdown(columns, data)
            logger.experiment.add_text(key, text, trainer.global_step)


def log_media(trainer: pl.Trainer, key: str, paths: Iterable[Path]) -> None:
    """Log files under ``<key>/image``, ``video``, ``audio`` or ``html`` by their ending; pass over
    all others."""
    for path in paths:
        if path.suffix not in KINDS:
            continue
        name = f"{key}/{KINDS[path.suffix]}"
        for logger in _loggers(trainer):
            if isinstance(logger, WandbLogger):
                _to_wandb(logger, name, path, trainer.global_step)
            elif isinstance(logger, TensorBoardLogger):
                _to_tensorboard(logger, name, path, trainer.global_step)


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as text; numbers have four digits.

    >>> print(markdown(("name", "norm"), [("W", 0.123456)]))
    | name | norm |
    |---|---|
    | W | 0.1235 |
    """
    lines = [columns, ["---"] * len(columns), *([_short(v) for v in row] for row in rows)]
    head, rule, *body = lines
    return "\n".join(
        [f"| {' | '.join(head)} |", f"|{'|'.join(rule)}|", *(f"| {' | '.join(r)} |" for r in body)]
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _loggers(trainer: pl.Trainer) -> list[Logger]:
    return trainer.loggers if trainer.is_global_zero else []


def _to_wandb(logger: WandbLogger, key: str, path: Path, step: int) -> None:
    if path.suffix == ".png":
        logger.log_image(key, [str(path)], step)
    elif path.suffix == ".gif":
        logger.log_video(key, [str(path)], step, format=["gif"])
    elif path.suffix == ".wav":
        logger.log_audio(key, [str(path)], step)
    else:
        import wandb

        logger.log_metrics({key: wandb.Html(str(path), inject=False)}, step)  # type: ignore[dict-item]


def _to_tensorboard(logger: TensorBoardLogger, key: str, path: Path, step: int) -> None:
    """Write the bytes of a file as they are. TensorBoard's own writers would decode and encode them
    again, and lose the motion of a GIF."""
    from tensorboard.compat.proto.summary_pb2 import Summary

    if path.suffix in (".png", ".gif"):
        with Image.open(path) as image:
            width, height = image.size
        picture = Summary.Image(
            height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes()
        )
        value = Summary.Value(tag=key, image=picture)
    elif path.suffix == ".wav":
        with wave.open(str(path)) as sound:
            rate, channels, n = sound.getframerate(), sound.getnchannels(), sound.getnframes()
        audio = Summary.Audio(
            sample_rate=rate, num_channels=channels, length_frames=n,
            encoded_audio_string=path.read_bytes(), content_type="audio/wav",
        )  # fmt: skip
        value = Summary.Value(tag=key, audio=audio)
    else:
        return
    logger.experiment._get_file_writer().add_summary(Summary(value=[value]), step)
