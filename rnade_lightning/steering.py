"""Make the context of what is generated, and tell the label of what was recorded.

A label y gives Bayes' rule: with equal prior probabilities,

$$p(y | x_1 .. x_t) \\propto p(x_1 .. x_t | y), \\qquad
p(x_t | x_{<t}) = \\sum_y p(y | x_{<t})\\, p(x_t | x_{<t}, y)$$

so a generative model given labels is a classifier, and the last line is its density of frames whose
label is not known. That of a model that is told that the label is absent is another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from rnade_lightning.contexts import argument
from rnade_lightning.datamodules import FrameDataModule, FrameSequence
from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.core.given import Given, listed
from rnade_lightning.guided_samples import Aim
from rnade_lightning.sequence_density import SequenceDensity

_MOST_SAID = 3  # controls of which it is said that they go beyond the training frames


class Steered(NamedTuple):
    """Holds what sequences to generate are given.

    Attributes:
        context: ``(N, T, C)``; None for a model that is given nothing.
        told: what each of them is given, in words.
        n_frames: T.
        aim: what they are drawn toward, although the model is not given it; None for nothing.
    """

    context: Tensor | None
    told: list[str]
    n_frames: int
    aim: Aim | None = None


def steered(
    data: FrameDataModule,
    n_samples: int,
    n_frames: int | None,
    default_frames: int,
    label: Sequence[str],
    control: str | None,
    rest: FrameSequence | None = None,
) -> Steered:
    """Return what sequences to generate are given.

    Args:
        data: the data of the model.
        n_samples: N. Without a label, they take the classes in turn.
        n_frames: T; where it is None, that of the control if it is a file, or ``default_frames``.
        default_frames: frames of a sequence where nothing says how many.
        label: classes such as ``run`` or ``action=run``; one for each label at most.
        control: a file; see `FrameDataModule.controls`. Sequences of a model that is given no
            control are drawn toward it, if it is a path for a root that is modelled.
        rest: of a file that is continued, what comes after its prefix: its labels are kept and, if
            there is no control, its controls.

    Raises:
        DataError: the model is given nothing of the kind, or there is no such class.
    """
    given = data.given
    if data.context_by_feature:
        raise DataError(
            "the model is given side information of every feature, which follows from the samples"
            " drawn before it and is not known beforehand: no samples can be drawn"
        )
    if label and (given is None or not given.classes):
        raise DataError("the model is given no label: leave --label out")
    numbers, aim = None, None
    if given is not None and given.names:
        numbers = _controls(data, given, n_frames, default_frames, control, rest)
        n_frames = len(numbers)
    elif control is not None:
        aim = data.way(control, n_frames, default_frames)
        n_frames = aim.n_frames
        for line in aim.beyond():
            rank_zero_warn(f"--control {control}: {line}")
    n_frames = n_frames or default_frames
    if given is None:
        return Steered(None, [""] * n_samples, n_frames, aim)
    labels = ({} if rest is None else dict(rest.labels)) | chosen(given.classes, label)
    contexts, told = [], []
    for i in range(n_samples):
        turn = {name: of[i % len(of)] for name, of in given.classes.items()}
        own = turn | labels
        contexts.append(given.make(numbers, n_frames, own))
        told.append("_".join(own.values()))
    return Steered(torch.stack(contexts), told, n_frames, aim)


def _controls(
    data: FrameDataModule,
    given: Given,
    n_frames: int | None,
    default_frames: int,
    control: str | None,
    rest: FrameSequence | None,
) -> np.ndarray:
    """Return the controls ``(T, G)`` that something tells, or those of the rest of a file."""
    if control is not None:
        numbers = data.controls(control, n_frames, default_frames)
        beyond = given.beyond(numbers)
        for line in beyond[:_MOST_SAID]:
            rank_zero_warn(f"--control {control}: {line}")
        if (n := len(beyond) - _MOST_SAID) > 0:
            rank_zero_warn(f"--control {control}: so do {n} more of {len(given.names)} controls")
        return numbers
    if rest is None:
        raise DataError(
            f"the model is given {listed(given.names)}: give --control: {data.control_hint}"
        )
    if len(rest.frames) < max(n_frames or 1, 1):
        raise DataError(
            f"{rest.name} goes on for {len(rest.frames)} frames after the prefix, fewer than the"
            f" {n_frames or 1} to draw: give --control, or set --seconds or --n_frames to less"
        )
    assert rest.context is not None
    return given.control_of(rest.context)[:n_frames]


def chosen(classes: dict[str, list[str]], label: Sequence[str]) -> dict[str, str]:
    """Return class by label, of words such as ``run`` or ``action=run``.

    Raises:
        DataError: it is no class, or one of several labels; lists the classes.

    >>> chosen({"action": ["run", "walk"]}, ["run"])
    {'action': 'run'}
    """
    found: dict[str, str] = {}
    for word in label:
        name, equals, value = word.partition("=")
        if not equals:
            value = word
            of = [name for name, known in classes.items() if word in known]
            if len(of) != 1:
                every = "; ".join(f"{name}: {listed(known)}" for name, known in classes.items())
                which = "a class of several labels, write LABEL=CLASS" if of else "no class"
                raise DataError(f"--label {word}: {which}; the labels are {every or 'none'}")
            name = of[0]
        if name not in classes:
            raise DataError(f"--label {word}: {name!r} is none of {listed(classes) or 'none'}")
        if value not in classes[name]:
            raise DataError(f"--label {word}: {value!r} is none of {listed(classes[name])}")
        if name in found:
            raise DataError(f"--label {word}: {name} is {found[name]} already; give it one class")
        found[name] = value
    return found


@torch.no_grad()
def by_class(
    model: SequenceDensity, data: FrameDataModule, sequence: Any, label: str, device: str
) -> Tensor:
    """Return log p of every frame under every class of a label, ``(n_classes, T)``; the rest of the
    context stays as it is."""
    assert data.given is not None
    n = len(data.given.classes[label])
    context = sequence.context[None].repeat(n, 1, 1)
    context[..., data.given.columns_of(label)] = torch.eye(n)[:, None]
    frames = sequence.frames[None].to(device)
    return model.log_prob(frames, **argument(context.to(frames))).cpu().double()


def posterior(log_p: Tensor) -> tuple[Tensor, Tensor]:
    """Return the posterior of the classes after every frame ``(n_classes, T)``, and log p of every
    frame under the mixture of them ``(T,)``, from log p under each ``(n_classes, T)``.

    >>> p, mixed = posterior(torch.tensor([[0.25, 0.25], [0.75, 0.25]]).log())
    >>> p[:, 0], mixed.exp()
    (tensor([0.2500, 0.7500]), tensor([0.5000, 0.2500]))
    """
    total = log_p.cumsum(1)
    evidence = total.logsumexp(0) - torch.tensor(len(log_p), dtype=total.dtype).log()
    mixed = evidence.diff(prepend=evidence.new_zeros(1))
    return torch.softmax(total, 0), mixed


def absent_in(model: SequenceDensity, sequence: Any) -> str | None:
    """Return a line if a label of a sequence is absent, and the model has never seen it absent."""
    seen = any(getattr(part, "context_dropout", 0.0) for part in model.modules())
    if seen or sequence.context is None or not sequence.context.isnan().any():
        return None
    return (
        "has no label, and the model was trained without absent ones (model.context_dropout): its"
        " log p means little; give the label, or tell it by --label all"
    )


def label_to_tell(data: FrameDataModule, label: str) -> str:
    """Return the label that ``score --label`` names: ``all`` for the only one.

    Raises:
        DataError: there is no such label, or there are several.
    """
    names = list(data.given.classes) if data.given else []
    if label == "all" and len(names) == 1:
        return names[0]
    if label not in names:
        what = "the model has several labels" if label == "all" and names else "no such label"
        raise DataError(f"--label {label}: {what}; the labels are {listed(names) or 'none'}")
    return label


def summary_of(label: str, found: Sequence[tuple[str, str | None, str, float]]) -> str:
    """Return lines on the class of each file, and how many are right where that is known.

    Args:
        label: name of the label.
        found: of each file its name, its class if it is known, the class found, its probability.
    """
    lines = [f"{name}: {label} {one}, probability {p:.3f}" for name, _, one, p in found]
    known = [(own, one) for _, own, one, _ in found if own is not None]
    if known:
        right = sum(own == one for own, one in known)
        lines.append(f"{right} of {len(known)} files with a known {label} are right")
    return "\n".join(lines)
