"""Export a trained model as graphs that need no part of this package: ONNX and torch.export.

A folder holds, for each graph, ``<graph>.onnx`` and ``<graph>.pt2``, and beside them
``model.json``: names and sizes of all inputs and outputs, the state before the first frame, and
what turns the data's numbers into the model's and back.

    log_prob  frames (B, T, D), u (B, S)              -> log_prob (B, T), u_after (B, S)
    step      x (B, D), u (B, S)                      -> log_prob (B,), u_after (B, S), and of an
              RNN-RNADE log_weights, means, log_scales (B, D, K): the mixture of every feature given
              the features of x that are visited before it
    draw      u (B, S), uniform (B, D), noise (B, D)  -> x (B, D), u_after (B, S)

Each takes a ``context`` behind these, ``(B, T, C)`` or ``(B, C)``, if the model has one; NaN where
a number is absent. Where a frame has J common scales, K is J times as many, and ``draw`` takes one
more input, ``uniform_of_scale (B,)``. B and T are free.

Conventions:
    float32; frames in the model's standardised units, log p in nats per frame. Draws are a function
    of uniform numbers in [0, 1) and of standard draws of the component.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from rnade_lightning.arguments import folder_to_write
from rnade_lightning.checkpoint_files import Checkpoint, package_version
from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.class_paths import Trust
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.rnn_rnade import RNNRNADE
from rnade_lightning.sequence_density import SequenceDensity

TOLERANCE = 1e-5
"""Largest difference between a graph's numbers and ours, beside the size of ours."""

_NEEDED = "export needs the extra export: pip install 'rnade-lightning[export]'"


class Graph(NamedTuple):
    """One graph: a module, and its inputs and outputs by name and size."""

    name: str
    module: nn.Module
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]


class LogProb(nn.Module):
    """Log p of every frame, and the state after the last."""

    def __init__(self, model: SequenceDensity) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, frames: Tensor, u: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        return self.model.log_prob_and_state(frames, None, u, context)


class Step(LogProb):
    """Log p of one frame, the state after it, and the mixtures of an RNN-RNADE."""

    def forward(self, x: Tensor, u: Tensor, context: Tensor | None = None) -> tuple[Tensor, ...]:
        history, given = self.model.history(u, context), () if context is None else (context,)
        found = self.model.log_prob_given(history, x), self.model.step(x, u, *given)
        if isinstance(self.model, RNNRNADE):
            return *found, *self.model.mixtures_given(history, x)
        return found


class Draw(nn.Module):
    """A frame from random numbers, and the state after it."""

    def __init__(self, model: RNNRNADE) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, u: Tensor, uniform: Tensor, noise: Tensor,
        first: Tensor | None = None, second: Tensor | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Take the context and the uniform number of the scale last, each if the model has one."""
        context, of_scale = (first, second) if self.model.n_context else (None, first)
        history = self.model.history(u, context)
        x = self.model.frames_of_noise(history, uniform, noise, of_scale)
        return x, self.model.step(x, u, *(() if context is None else (context,)))


def export(ckpt_path: str, out: str = "exported", trust: Trust = ()) -> None:
    """Write a trained model as ONNX and torch.export graphs: log p of sequences, one step, and one
    draw. Each graph is run, and its numbers are compared with the model's, before it is kept.

    Args:
        ckpt_path: checkpoint that ``fit`` wrote, or folder that ``save_pretrained`` wrote.
        out: folder to write to.
        trust: package of yours, or a list of them, whose classes the checkpoint may name.
    """
    folder_to_write(out)
    checkpoint = load_checkpoint(ckpt_path)
    model = load_model(checkpoint, trust)
    written = write(model, out, description_of(checkpoint, trust))
    print("\n".join(map(str, written)))


def write(
    model: SequenceDensity, folder: str | Path, description: Mapping[str, Any] | None = None
) -> list[Path]:
    """Write the graphs of a model, and ``model.json``.

    Args:
        model: the model; it is exported in float32 and in evaluation mode.
        folder: folder to write to.
        description: more entries of ``model.json``, as `description_of` returns them.

    Returns:
        The files written.

    Raises:
        ValueError: the extra ``export`` is missing, the model cannot be exported, or a graph gives
            other numbers than the model.
    """
    model = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    graphs = graphs_of(model)
    about = {
        "model": type(model).__name__,
        "package_version": package_version(),
        "n_features": model.n_features,
        "n_context": model.n_context,
        "u_0": model.initial_state(1)[0].tolist(),
        "graphs": {g.name: {"inputs": g.inputs, "outputs": g.outputs} for g in graphs},
    }
    if isinstance(model, RNNRNADE):
        about["noise"] = repr(model.rnade.component)
    text = json.dumps(about | dict(description or {}), indent=1)
    programs = [_programs(graph, text) for graph in graphs]
    folder, written = Path(folder), list[Path]()
    for graph, contents in zip(graphs, programs, strict=True):
        for ending, content in contents.items():
            written.append(folder / f"{graph.name}{ending}")
            with whole_file(written[-1]) as part:
                part.write_bytes(content)
    with whole_file(folder / "model.json") as part:
        part.write_text(text + "\n", encoding="utf-8")
    return [*written, folder / "model.json"]


def graphs_of(model: SequenceDensity) -> list[Graph]:
    """Return the graphs of a model; that of a draw only for an RNN-RNADE.

    Raises:
        ValueError: the model runs code beside its net, which no graph holds.
    """
    if model.makes_context:
        raise ValueError(
            f"{type(model).__name__} computes its side information by a front end outside its net, "
            "which no graph can hold: use it from Python, or export an RNNRNADE"
        )
    D, S, C = model.n_features, model.initial_state(1).shape[1], model.n_context
    state, after = {"u": ("B", S)}, {"u_after": ("B", S)}
    of_frame = {"context": ("B", C)} if C else {}
    of_frames = {"context": ("B", "T", C)} if C else {}
    log_prob = Graph(
        "log_prob", LogProb(model), {"frames": ("B", "T", D), **state, **of_frames},
        {"log_prob": ("B", "T"), **after},
    )  # fmt: skip
    step = Graph("step", Step(model), {"x": ("B", D), **state, **of_frame},
                 {"log_prob": ("B",), **after})  # fmt: skip
    if not isinstance(model, RNNRNADE):
        return [log_prob, step]
    K = model.rnade.n_components * (1 if model.scales is None else len(model.scales.log_scales))
    for name in ("log_weights", "means", "log_scales"):
        step.outputs[name] = ("B", D, K)
    random = {"uniform": ("B", D), "noise": ("B", D)}
    of_scale = {} if model.scales is None else {"uniform_of_scale": ("B",)}
    inputs = {**state, **random, **of_frame, **of_scale}
    draw = Graph("draw", Draw(model), inputs, {"x": ("B", D), **after})
    return [log_prob, step, draw]


def description_of(checkpoint: Checkpoint, trust: Trust = ()) -> dict[str, Any]:
    """Return what a user of the graphs needs of the data that the model was trained on: names of
    the features, the numbers that standardise them, and frames in a second; nothing for a model
    that was trained without a data module."""
    if checkpoint["data_class"] is None:
        return {}
    data = load_data(checkpoint, trust)
    state = data.state_dict()
    known = state["standardiser"]
    names, n_given = known["names"], known.get("n_given", 0)
    plain = {
        key: np.asarray(known[key]).tolist() for key in ("kept", "mean", "std", "basis", "offset")
    }
    return {
        "frame_rate": state["frame_rate"],
        "units": data.units,
        "features": [names[i] for i in plain["kept"][n_given:]],
        "given": [names[i] for i in plain["kept"][:n_given]],
        "mean": plain["mean"][n_given:],
        "std": plain["std"][n_given:],
        "raw": {
            "how": "raw = basis @ [given, frame] + offset, given and frame standardised",
            "names": names,
            "basis": plain["basis"],
            "offset": plain["offset"],
        },
        "context": None if data.given is None else str(data.given),
    }


def _programs(graph: Graph, text: str) -> dict[str, bytes]:
    """Return the files of a graph by their ending. What they hold is loaded, and compared with the
    module on batches of other sizes than that it was traced with."""
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed: {_NEEDED}") from None
    sizes = {name: torch.export.Dim(name) for name in ("B", "T")}
    dynamic = tuple(
        {i: sizes[n] for i, n in enumerate(shape) if isinstance(n, str)}
        for shape in graph.inputs.values()
    )
    with _quiet(), _refused(graph), torch.no_grad():
        exported = torch.export.export(graph.module, _example(graph, 2, 3), dynamic_shapes=dynamic)
        torch.export.save(exported, kept := io.BytesIO(), extra_files={"model.json": text})
        loaded = torch.export.load(io.BytesIO(kept.getvalue())).module()
        program = torch.onnx.export(
            exported, (), dynamo=True, verbose=False,
            input_names=[*graph.inputs], output_names=[*graph.outputs],
        )  # fmt: skip
        assert program is not None
        program.model.metadata_props["rnade_lightning"] = text
        onnx = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        for n, T in ((1, 1), (3, 5)):
            given = _example(graph, n, T)
            ours = [t.numpy() for t in graph.module(*given)]
            by_name = {k: t.numpy() for k, t in zip(graph.inputs, given, strict=True)}
            _compare("torch.export", graph, ours, [t.numpy() for t in loaded(*given)])
            _compare("onnxruntime", graph, ours, session.run([*graph.outputs], by_name))
    return {".onnx": onnx, ".pt2": kept.getvalue()}


def _compare(
    what: str, graph: Graph, ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]
) -> None:
    for name, a, b in zip(graph.outputs, ours, theirs, strict=True):
        if a.shape != b.shape or not np.allclose(a, b, TOLERANCE, TOLERANCE, equal_nan=True):
            off = np.abs(a - b).max() if a.shape == b.shape else f"shapes {a.shape} and {b.shape}"
            raise ValueError(f"{name} of {what} differs from the model's: {off}")


def _example(graph: Graph, n: int, T: int) -> tuple[Tensor, ...]:
    """Return inputs of a graph."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"B": n, "T": T}
    found = []
    for name, shape in graph.inputs.items():
        size = [sizes[s] if isinstance(s, str) else s for s in shape]
        of: Callable[..., Tensor] = torch.rand if name[:7] == "uniform" else torch.randn
        found.append(of(size, generator=generator))
    return tuple(found)


@contextmanager
def _refused(graph: Graph) -> Iterator[None]:
    """Turn what torch and onnxruntime raise into one line."""
    try:
        yield
    except Exception as error:  # of many libraries
        cause: BaseException = error
        while cause.__cause__ is not None:  # what the exporters wrap in advice
            cause = cause.__cause__
        said = " ".join(str(cause).split())[:300] or type(cause).__name__
        model = type(graph.module.model).__name__
        raise ValueError(f"{model} cannot be exported; its graph {graph.name}: {said}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporters tell of their own work."""
    loggers = [logging.getLogger(f"torch.{part}") for part in ("onnx", "_export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
