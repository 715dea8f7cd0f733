"""Use a trained model from the command line: ``sample``, ``score``, ``combine``, ``gradcheck``.

A page of help needs their signatures alone, so what takes time is imported where it runs.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from rnade_lightning.arguments import between, folder_to_write
from rnade_lightning.class_paths import Trust
from rnade_lightning.rnn_rnade import RNNRNADE

SHIPPED = Path(__file__).parent / "models" / "walk"
"""The folder of the model that comes with this package, trained on the motion that does."""


def sample(
    ckpt_path: str | None = None,
    out: str = "samples",
    n_samples: int = 3,
    seconds: float | None = None,
    n_frames: int | None = None,
    prefix: str | None = None,
    prefix_seconds: float | None = None,
    n_prefix: int | None = None,
    temperature: float = 1.0,
    guard: bool = False,
    label: list[str] | str | None = None,
    control: str | None = None,
    vocoder: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    trust: Trust = (),
) -> None:
    """Generate new sequences, or continue a given file, as files that a person can play. A sequence
    that leaves the data ends there, with a line that says so.

    Args:
        ckpt_path: checkpoint that ``fit`` wrote, or folder that ``save_pretrained`` wrote; if not
            given, the model of walks and runs that comes with this package.
        out: folder to write to.
        n_samples: sequences to generate.
        seconds: length of each, beside a prefix; if not given, 10 s of motion, 3 s of sound, or
            150 frames.
        n_frames: the same in frames.
        prefix: file to continue, of the kind that the model was trained on.
        prefix_seconds: length of the start of that file to continue from, which stands in the
            result; if not given, a fifth of the length to generate.
        n_prefix: the same in frames.
        temperature: below 1 for calmer sequences than the model's own; 1 for its density.
        guard: draw a second again that leaves the data, which only motion can tell; otherwise a
            sequence ends there. What is drawn toward a path goes on, by draws that stay if any do.
        label: class that a model with labels is given, such as ``run`` or ``action=run``, or a list
            of them, one of each label; without it samples take the classes in turn.
        control: what steers a model with controls: a file of its kind, a .csv of the controls or,
            for motion, ``circle``, ``line``, ``stop``, or a .csv of waypoints (seconds, x, z) or
            velocities (seconds, turn, left, ahead); without it, a continuation takes the controls
            of the rest of its file. Motion whose root is modelled is drawn toward that path.
        vocoder: checkpoint of ``configs/vocoder.yaml`` that turns mel frames which the model draws
            into sound, in place of a fit from noise.
        seed: seed of the draws.
        device: torch device, ``cpu`` or ``cuda``.
        trust: package of yours, or a list of them, whose classes the checkpoint may name.
    """
    from rnade_lightning.callbacks.samples import lengths
    from rnade_lightning.drawing import (
        Beginning,
        beginning_of,
        draw_sequences,
        in_frames,
        load,
        write_sequences,
    )
    from rnade_lightning.steering import Steered, steered

    folder_to_write(out, ckpt_path=ckpt_path, prefix=prefix, control=control, vocoder=vocoder)
    between(-(2**63), 2**63, seed=seed)
    if ckpt_path is None:
        print("the model of walks and runs that comes with this package; --ckpt_path for another",
              file=sys.stderr)  # fmt: skip
    data, model = load(str(ckpt_path or SHIPPED), device, trust)
    generator = torch.Generator(device).manual_seed(seed)
    render: Callable[..., list[Path]] = data.render
    if vocoder is not None:
        from rnade_lightning.vocoder import Vocoder

        render = Vocoder(vocoder, device, trust).render_of(data, generator)
    default_frames = lengths(data, None, None)[0]
    words = [label] if isinstance(label, str) else list(label or ())
    length = in_frames(data, n_frames, seconds, "n_frames", "seconds")
    between(1, n_samples=n_samples, n_frames=default_frames if length is None else length)
    of_prefix = in_frames(data, n_prefix, prefix_seconds, "n_prefix", "prefix_seconds")
    if of_prefix is not None and not (prefix and of_prefix):
        raise ValueError(
            "--n_prefix and --prefix_seconds tell how much of the file of --prefix is continued, a"
            " frame at least: give the file and a length above 0, or leave them out"
        )
    first = Beginning("sample", torch.empty(1, 0, model.n_features, device=device))
    if prefix is not None:
        first = beginning_of(data, prefix, lengths(data, length, of_prefix)[1], device)
    steer = Steered(None, [""] * n_samples, length or default_frames)
    if not model.makes_context or words or control:
        steer = steered(data, n_samples, length, default_frames, words, control, first.rest)
    drawn = draw_sequences(data, model, first, steer, guard, generator, temperature)
    if steer.aim is not None:
        render = steer.aim.render
    print("\n".join(map(str, write_sequences(render, drawn, first, steer, Path(out)))))


def score(
    ckpt_path: str,
    files: str,
    out: str | None = None,
    warmup_seconds: float = 0.0,
    label: str | None = None,
    device: str = "cpu",
    trust: Trust = (),
) -> None:
    """Print the log density of every frame of files, in nats, as CSV: file, frame, log_prob,
    seconds, breaks, and bits_per_sample where the data are integers (bits_per_sample_given, which
    are no code length, where the model is given signals that look ahead).

    log_prob is in the model's standardised units. The first frame is the first that the
    representation defines, and seconds is where it begins. A frame that breaks a relation of the
    training data has log_prob -inf, and breaks names the feature, such as one that was constant.

    Args:
        ckpt_path: checkpoint that ``fit`` wrote, or folder that ``save_pretrained`` wrote.
        files: a file, folder or glob, of the kind that the model was trained on.
        out: CSV file to write; standard output if not given.
        warmup_seconds: length of the start of each sequence that is left out of the CSV.
        label: ``all``, or a label's name, to tell the class of each file: log_prob is then that of
            a mixture of the classes, with a column for log p under each of them and one for its
            posterior probability after that frame, all classes alike before the first.
        device: torch device, ``cpu`` or ``cuda``.
        trust: package of yours, or a list of them, whose classes the checkpoint may name.
    """
    from pytorch_lightning.utilities.rank_zero import rank_zero_warn
    from tqdm import tqdm

    from rnade_lightning.contexts import argument
    from rnade_lightning.datamodules.core.store import whole_file
    from rnade_lightning.datamodules.core.tables import plain_rows
    from rnade_lightning.drawing import in_frames, load
    from rnade_lightning.steering import absent_in, by_class, label_to_tell, posterior, summary_of

    data, model = load(ckpt_path, device, trust)
    integers = data.bits_per_sample(0.0) is not None
    first = in_frames(data, None, warmup_seconds, "", "warmup_seconds") or 0
    tell = None if label is None else label_to_tell(data, label)
    classes = data.given.classes[tell] if tell and data.given else []
    of_classes = [f"{what}_{name}" for what in ("log_prob", "posterior") for name in classes]
    rows: list[tuple[object, ...]] = [
        (
            "file", "frame", "log_prob", "seconds", "breaks", *[data.bits_name] * integers,
            *of_classes,
        )
    ]  # fmt: skip
    told_of: list[tuple[str, str | None, str, float]] = []
    for sequence in tqdm(data.score_inputs(files), desc="score", unit="sequence", disable=None):
        frames = sequence.frames[None].to(device)
        if why := absent_in(model, sequence):
            rank_zero_warn(f"{sequence.name}: {why}")
        more = torch.zeros(0, frames.shape[1])
        if tell is None:
            with torch.no_grad():
                log_p = model.log_prob(frames, **argument(sequence.context_of(0, frames)))[0].cpu()
        else:
            under = by_class(model, data, sequence, tell, device)
            under[:, :first] = 0  # which is left out of the posterior, too
            after, log_p = posterior(under)
            more = torch.cat((under + sequence.log_jacobian, after))
            best = int(after[:, -1].argmax())
            own = sequence.labels.get(tell)
            told_of.append((sequence.name, own, classes[best], float(after[best, -1])))
        log_p = log_p + sequence.log_jacobian
        data.check_likelihood(sequence.name, log_p[first:].numpy())
        for t, value in enumerate(log_p.tolist()[first:], first):
            bits = (data.bits_per_sample(value),) * integers
            told = value, round(t / data.frame_rate, 6), sequence.breaks.get(t, "")
            rows.append((sequence.name, t, *told, *bits, *more[:, t].tolist()))
    if tell is not None:
        print(summary_of(tell, told_of), file=sys.stderr)
    if out is None:
        csv.writer(sys.stdout).writerows(plain_rows(rows))
        return
    with whole_file(out) as partial, open(partial, "w", newline="") as file:
        csv.writer(file).writerows(plain_rows(rows))
    print(out)


def combine(
    ckpt_paths: list[str],
    out: str = "ensemble.ckpt",
    trust: Trust = (),
) -> None:
    """Make one model of several: an equal mixture at every frame, with an exact likelihood.

    Its checkpoint works as any other, for ``test``, ``predict``, ``sample`` and ``score``.

    Args:
        ckpt_paths: checkpoints that ``fit`` wrote, or such folders, all trained on the same data.
        out: checkpoint to write.
        trust: package of yours, or a list of them, whose classes the checkpoints may name.
    """
    from rnade_lightning.checkpoints import combine_checkpoints, load_checkpoint
    from rnade_lightning.datamodules.core.store import whole_file

    combined = combine_checkpoints([load_checkpoint(path) for path in ckpt_paths], trust)
    with whole_file(out) as partial:
        torch.save(dict(combined), partial)
    print(out)


def gradcheck(
    ckpt_path: str | None = None,
    n_features: int = 5,
    n_hidden: int = 4,
    n_recurrent: int = 3,
    n_components: int = 3,
    cell: str = "sigmoid",
    n_frames: int = 6,
    seed: int = 0,
    trust: Trust = (),
    **kwargs: Any,
) -> None:
    """Check every gradient of the path in use: against the algorithms and central differences.

    Args:
        ckpt_path: checkpoint to check; without one, a fresh model of the sizes below.
        n_features: D of the fresh model.
        n_hidden: H of the fresh model.
        n_recurrent: R of the fresh model.
        n_components: K of the fresh model.
        cell: recurrent cell of the fresh model.
        n_frames: length of the two sequences to check on, drawn from N(0, 1).
        seed: seed of the fresh model's weights and of the sequences.
        trust: package of yours, or a list of them, whose classes the checkpoint may name.
        **kwargs: further options of the fresh model; see `RNNRNADE`.
    """
    from rnade_lightning.callbacks.gradient_check import (
        format_table,
        gradient_table,
        require_correct,
    )
    from rnade_lightning.checkpoints import load_checkpoint, load_model

    between(1, n_frames=n_frames)
    torch.manual_seed(seed)
    if ckpt_path is not None:
        model = load_model(load_checkpoint(ckpt_path), trust)
    else:
        model = RNNRNADE(n_features, n_hidden, n_recurrent, n_components, cell, **kwargs)
        for parameter in model.parameters():  # far from the start, where much is nearly zero
            torch.nn.init.normal_(parameter, std=0.5)
    frames = torch.randn(2, n_frames, model.n_features)
    rows = gradient_table(model, frames, seed=seed)
    print(format_table(rows))
    require_correct(rows)
