"""Calls public entries of models with random arguments: ``python tests/fuzz_entries.py --n 20000``.

Every call draws a model, an entry and its arguments: of the right shape or not, of any dtype, of
any strides, on the CPU or on meta, of sizes 0 and 1, now and then with huge, infinite or undefined
values. The same call goes to the compiled and to the torch path of the same weights. Right is the
same numbers (drawn from the same seed), or the same refusal in the same words: a `TypeError`, a
`ValueError`, or a `NotImplementedError` of what a density goes without. Where the numbers are none
of them nan, the gradients are the same wherever the torch path has one. All else is reported with
the seed that makes it again, and so is a process that dies.
"""

from __future__ import annotations

import argparse
import copy
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnade_lightning import RNADE, RNNRNADE
from rnade_lightning.cells import cell_names
from rnade_lightning.components import component_names
from rnade_lightning.densities import Gaussian, GaussianMixture, LowRankGaussian, RNNDensity
from rnade_lightning.ensemble import Ensemble

RIGHT = ("same", "refused")
REFUSALS = ("TypeError", "ValueError", "NotImplementedError")
D, H, R, K = 3, 5, 4, 2
N_MODELS = 40
BATCH = 2000
"""Calls of a process."""
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
DTYPES += [torch.complex64]
SPECIAL = [0.0, 1e10, 1e19, -1e25, math.inf, -math.inf, math.nan]
TOLERANCE = {torch.float32: 2e-3, torch.float64: 1e-8}


# ------------------------------------------------------------------ models


def draw_model(rng: np.random.Generator, backend: str) -> Any:
    """A small model of random options."""
    frame: dict[str, Any] = {
        "component": str(rng.choice(component_names())),
        "activation": str(rng.choice(["sigmoid", "relu"])),
        "floor": 0.1,
        "linear": bool(rng.integers(2)),
    }
    if frame["activation"] == "sigmoid" and rng.integers(2):
        frame["floor"] = 0.0  # ReLU needs one where frames are far
    if frame["component"] == "laplace" and rng.integers(2):
        frame["censor_at"] = (-0.5, 0.5)
    net: dict[str, Any] = {
        "cell": str(rng.choice(cell_names())),
        "n_past": int(rng.integers(3)),
        "n_layers": int(rng.integers(1, 3)),
        "feature_order": [None, 1][rng.integers(2)],
    }
    kind, others = rng.integers(5), (Gaussian, LowRankGaussian, GaussianMixture)
    if kind == 0:
        return RNADE(D, H, K, backend=backend, **frame)
    if kind == 1:
        density = others[rng.integers(3)](D)
        return RNNDensity(density, R, backend=backend, **net)
    one = RNNRNADE(D, H, R, K, backend=backend, **frame, **net)
    if kind == 2:
        return Ensemble([one, RNNRNADE(D, H, R, K, backend=backend, cell="lstm")])
    return one


@cache
def models(number: int) -> tuple[Any, Any]:
    """The same model on the torch path and on the compiled path."""
    made = [draw_model(np.random.default_rng(number), backend) for backend in ("torch", "compiled")]
    rng = np.random.default_rng(number)
    dtype = [torch.float32, torch.float64][rng.integers(2)]
    state = made[0].state_dict()
    for name, t in state.items():
        state[name] = torch.as_tensor(rng.normal(size=t.shape) / 2, dtype=t.dtype)
    for model in made:
        model.load_state_dict(state)
        model.eval().to(dtype)
        if number % 10 == 9:
            model.to("meta")
    return made[0], made[1]


# ------------------------------------------------------------------ arguments


class Arguments:
    """Draws arguments, most of them right."""

    def __init__(self, rng: np.random.Generator, model: Any) -> None:
        self.rng = rng
        parameter = next(model.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        self.wrong = 0.12 if rng.integers(3) else 0.0  # of each thing about a tensor

    def some(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def size(self) -> int:
        return int(self.rng.choice([0, 1, 1, 2, 4, 17]))

    def tensor(self, *shape: int) -> Any:
        rng, sizes = self.rng, list(shape)
        if self.some(self.wrong) and sizes:
            i = int(rng.integers(len(sizes)))
            change = int(rng.integers(4))
            if change == 0:
                sizes[i] = max(sizes[i] + int(rng.choice([-1, 1, 3])), 0)
            elif change == 1:
                sizes[i] = int(rng.integers(2))
            elif change == 2:
                del sizes[i]
            else:
                sizes.insert(i, int(rng.integers(3)))
        values = rng.normal(size=sizes)
        if values.size and self.some(0.1):
            values.flat[rng.integers(values.size)] = rng.choice(SPECIAL)
        dtype = DTYPES[rng.integers(len(DTYPES))] if self.some(self.wrong) else self.dtype
        with np.errstate(all="ignore"):
            t = torch.as_tensor(values).nan_to_num(0.0) if not dtype.is_floating_point else (
                torch.as_tensor(values))  # fmt: skip
        t = self.layout(t.to(dtype))
        device = ["cpu", "meta"][rng.integers(2)] if self.some(self.wrong / 3) else self.device
        t = t.to(device)
        if t.device.type == "cpu" and self.some(self.wrong / 6):
            return t.tolist() if self.some() else t.to_sparse()
        return t

    def layout(self, t: Tensor) -> Tensor:
        """The same numbers in other strides."""
        kind = int(self.rng.integers(6))
        if kind == 0 and t.dim() > 1:
            return t.transpose(0, -1).contiguous().transpose(0, -1)
        if kind == 1:
            return t.repeat_interleave(2, -1)[..., ::2] if t.dim() else t
        if kind == 2 and t.dim() and len(t):
            return t[:1].expand_as(t)
        if kind == 3 and t.dtype in (torch.float32, torch.float64):
            return torch.complex(t, -t).conj().imag
        return t

    def count(self) -> int:
        return int(self.rng.choice([-1, 0, 1, 2, 3])) if self.some(0.2) else 2

    def temperature(self) -> float:
        return float(self.rng.choice([1.0, 0.5, 0.0, math.nan, math.inf, 1e-320]))

    def source(self) -> dict[str, Any]:
        """A source of randomness; there is none for meta."""
        there = self.device.type == "cpu" or self.some(0.2)
        return {"generator": torch.Generator()} if there else {}

    def how(self) -> dict[str, Any]:
        """Source of randomness and temperature of draws."""
        found = self.source()
        if self.some(0.2):
            found["temperature"] = self.temperature()
        return found


def draw_call(a: Arguments, model: Any) -> tuple[str, list[Any], dict[str, Any]]:
    """A public entry of a model, and arguments for it."""
    if isinstance(model, RNADE):
        return _frame_call(a)
    B, T, S = a.size(), a.size(), model.initial_state(1).shape[1]
    own = 1 if a.some(0.2) else B
    frames = a.tensor(B, T, D)
    u = a.tensor(own, S) if a.some() else None
    mask = None
    if a.some(0.3):
        lengths = torch.as_tensor(a.rng.integers(0, T + 1, size=B))
        mask = torch.arange(T) < lengths[:, None]
        mask = a.tensor(B, T) if a.some(a.wrong) else mask.to(a.device)
    history = a.tensor(B, model.n_history)
    name = str(a.rng.choice([
        "log_prob", "log_prob", "log_prob_and_state", "states", "step", "sample", "stream",
        "next_frames", "predictive_mean", "one_step_samples", "log_prob_given", "sample_given",
        "mean_given", "feature_log_prob", "feature_cdf",
    ]))  # fmt: skip
    draws, generator = a.how(), a.source()
    counts = a.count(), a.count()
    calls: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "log_prob": ([frames, mask, u], {}),
        "log_prob_and_state": ([frames, mask, u], {}),
        "states": ([frames, u, mask], {}),
        "step": ([a.tensor(B, D), a.tensor(own, S)], {}),
        "sample": ([*counts, frames if a.some() else None, u], draws),
        "stream": ([*counts, frames if a.some() else None, u], draws),
        "next_frames": ([a.tensor(B, S)], {"temperature": 1.0} | draws),
        "predictive_mean": ([frames, u, max(counts[0], 1)], generator),
        "one_step_samples": ([frames, u, max(counts[0], 0)], generator),
        "log_prob_given": ([history, a.tensor(B, D)], {}),
        "sample_given": ([history, (2,)], draws),
        "mean_given": ([history, 3], generator),
        "feature_log_prob": ([frames, u], {}),
        "feature_cdf": ([frames, u], {}),
    }
    return name, *calls[name]


def _frame_call(a: Arguments) -> tuple[str, list[Any], dict[str, Any]]:
    B = [a.size() for _ in range(a.rng.integers(3))]
    own = B[a.rng.integers(3) :]
    biases: Any = None
    if a.some():
        n = 3 if not a.some(a.wrong) else int(a.rng.integers(5))
        biases = tuple(a.tensor(*(own if a.some() else []), D, K) for _ in range(n))
    d = D if a.some(0.7) else int(a.rng.integers(D + 2))
    x, given = a.tensor(*B, d), a.tensor(*own, d) if a.some(0.3) else None
    calls: dict[str, tuple[list[Any], dict[str, Any]]] = {
        "log_prob": ([x, biases], {}),
        "conditionals": ([x, biases], {}),
        "feature_log_prob": ([x, biases], {}),
        "feature_cdf": ([x, biases], {}),
        "sample": ([(2, *B), biases, given], a.how()),
        "mean": ([biases, a.count()], a.source()),
        "distribution": ([biases, x], {}),
    }
    name = str(a.rng.choice([*calls, "log_prob", "sample"]))
    return name, *calls[name]


# ------------------------------------------------------------------ outcomes


def call(model: Any, name: str, args: list[Any], how: dict[str, Any], slopes: bool) -> Any:
    """Return what an entry gives: its tensors with their gradients, or its refusal."""
    if "generator" in how:
        how = how | {"generator": torch.Generator().manual_seed(7)}
    try:
        if name == "distribution":
            out = model(args[0], 5).log_prob(args[1])
        elif name == "stream":
            n_frames = 2 if args[0] is None else args[0]
            out = list(model.stream(n_frames, *args[1:], **how))
        else:
            out = getattr(model, name)(*args, **how)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    found = [out] if isinstance(out, Tensor) else list(out)
    if not slopes or not found or not all(t.requires_grad for t in found):
        return found, []
    weights = [torch.linspace(0.5, 1, t.numel()).to(t).view(t.shape) for t in found]
    total = sum((t * w).sum() for t, w in zip(found, weights, strict=True))
    if not total.is_meta and total.isnan():
        return found, []
    parameters = list(model.parameters())
    return found, list(torch.autograd.grad(total, parameters, materialize_grads=True))


def differs(found: Tensor, expected: Tensor) -> str | None:
    """Return what is wrong with a tensor of the compiled path."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{tuple(found.shape)} {found.dtype}, not {tuple(expected.shape)} {expected.dtype}"
    if found.device != expected.device:
        return f"on {found.device}"
    if found.is_meta or not found.numel():
        return None
    tolerance = TOLERANCE[found.dtype]
    size = expected.detach()[expected.isfinite()].abs()
    scale = max(1.0, size.max().item()) if len(size) else 1.0
    if torch.allclose(found, expected, tolerance, tolerance * scale, equal_nan=True):
        return None
    at = (found - expected).abs().nan_to_num(torch.inf).argmax()
    return f"{found.flatten()[at].item()} instead of {expected.flatten()[at].item()}"


def outcome(seed: int) -> str:
    """Return what a call comes to: "same", "refused", or what is wrong with it."""
    rng = np.random.default_rng(seed)
    torch_path, compiled = models(int(rng.integers(N_MODELS)))
    a = Arguments(rng, torch_path)
    name, args, how = draw_call(a, torch_path)
    slopes = a.some(0.3)
    before = copy.deepcopy(args)
    expected = call(torch_path, name, args, how, slopes)
    found = call(compiled, name, args, how, slopes)
    where = f"{type(compiled).__name__}.{name}"
    if not _equal(args, before):
        return f"{where} changed its arguments"
    if isinstance(found, str) or isinstance(expected, str):
        if found != expected:
            return f"{where}: compiled {_short(found)}, torch {_short(expected)}"
        kind = expected.partition(":")[0]
        return "refused" if kind in REFUSALS else f"{where}: {_short(found)}"
    for kind, ours, theirs in zip(("", " gradient"), found, expected, strict=True):
        if len(ours) != len(theirs):
            return f"{where}: {len(ours)} tensors{kind} instead of {len(theirs)}"
        for one, two in zip(ours, theirs, strict=True):
            if kind:  # where the torch path has one
                one, two = (t.where(two.isfinite(), 0.0) for t in (one, two))
            if said := differs(one, two):
                return f"{where}{kind}: {said}"
    return "same"


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, list | tuple):
        return all(_equal(a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, Tensor) and one.layout == torch.strided and not one.is_meta:
        return torch.equal(one.nan_to_num(), two.nan_to_num())
    return True


def _short(found: Any) -> str:
    return found[:200].replace("\n", " ") if isinstance(found, str) else "gives numbers"


# ------------------------------------------------------------------ processes


def run(n: int, first_seed: int, say: Callable[[str], None] = print) -> tuple[Counter[str], int]:
    """Counts of outcomes, and the number of faults, each said with its seed."""
    counts: Counter[str] = Counter()
    seed, last = first_seed, first_seed + n
    while seed < last:
        child = (sys.executable, str(Path(__file__)), "--child", str(min(BATCH, last - seed)))
        process = subprocess.Popen(
            [*child, "--seed", str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        text, errors = process.communicate()
        for line in text.splitlines():
            number, tab, said = line.partition("\t")
            if not tab or not number.isdigit():
                continue
            seed = int(number) + 1
            counts[said if said in RIGHT else "fault"] += 1
            if said not in RIGHT:
                say(f"seed {number}: {said}")
        if process.returncode:
            counts["crash"] += 1
            say(f"seed {seed}: the process ended with status {process.returncode}: {errors[-300:]}")
            seed += 1
    return counts, counts["fault"] + counts["crash"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=20_000, help="calls")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        torch.set_num_threads(1)
        for seed in range(arguments.seed, arguments.seed + arguments.child):
            print(f"{seed}\t{outcome(seed)}", flush=True)
        return
    counts, faults = run(arguments.n, arguments.seed)
    print(f"{arguments.n} calls: {dict(counts)}")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
