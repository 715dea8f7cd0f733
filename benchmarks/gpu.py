"""Measure log p, its gradient, training steps and sampling on a GPU, beside peers and the CPU.

``python -m benchmarks.gpu`` (needs the extra ``bench`` and a GPU that torch can use) writes
``benchmarks/told/gpu.md``, a section of the page of `benchmarks.speed`. Peers take turns in one
process, and the host waits for the device at the end of every turn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.speed import (
    ON_A_GPU,
    SIZES,
    Table,
    environment,
    in_turns,
    loop_over_features,
    size_of,
    step_of,
    table,
)
from rnade_lightning import RNADE, RNNRNADE

GPU = torch.device("cuda")


def waiting(actions: dict[str, Callable[[], Any]]) -> dict[str, Callable[[], Any]]:
    """Return actions that end when the device has done them."""

    def done(action: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: (action(), torch.cuda.synchronize())

    return {name: done(action) for name, action in actions.items()}


def density() -> str:
    import zuko
    from nflows.distributions.mixture import MADEMoG

    rows: Table = []
    for N, D, H, K in (*SIZES, (100_000, 49, 100, 10)):
        torch.manual_seed(0)
        x = torch.randn(N, D, device=GPU)
        ours, plain = (RNADE(D, H, K, backend=b).to(GPU) for b in ("compiled", "torch"))
        made = MADEMoG(D, H, None, num_blocks=1, num_mixture_components=K).to(GPU)
        maf = zuko.flows.MAF(D, transforms=3, hidden_features=(H, H)).to(GPU)
        cpu, y = RNADE(D, H, K), x.cpu()
        actions = waiting(
            {
                "ours": step_of(ours.log_prob, ours, x),
                "loop": step_of(lambda x, m=plain: loop_over_features(m, x), plain, x),
                "nflows": step_of(made.log_prob, made, x),
                "zuko": step_of(lambda x, f=maf: f().log_prob(x), maf, x),
                "cpu": step_of(cpu.log_prob, cpu, y),
            }
        )
        if N * D * H < 10**8:  # autograd keeps all hidden units
            actions |= waiting({"plain": step_of(plain.log_prob, plain, x)})
        ms = in_turns(actions)
        peak = peak_of(actions["ours"]), peak_of(actions["nflows"])
        rows.append(
            [
                size_of((N, D, H, K)),
                f"{ms['ours']:.1f}",
                f"{ms['ours'] / ms['nflows']:.2f}",
                f"{ms['loop'] / ms['ours']:.1f}",
                f"{ms['plain'] / ms['ours']:.1f}" if "plain" in ms else "",
                f"{ms['zuko'] / ms['ours']:.1f}",
                f"{ms['cpu'] / ms['ours']:.1f}",
                f"{peak[0]:.2f} / {peak[1]:.2f}",
            ]
        )
    head = [
        "N, D, H, K", "ours, ms", "ours / nflows MADEMoG", "autograd loop over d / ours",
        "autograd, all d / ours", "zuko MAF / ours", "ours, compiled, on this machine's CPU / ours",
        "peak, GiB: ours / nflows",
    ]  # fmt: skip
    return "Forward and backward of N frames, float32.\n\n" + table(head, rows)


def peak_of(action: Callable[[], Any]) -> float:
    """Return the GiB that an action adds to what is held at its peak."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    action()
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def training() -> str:
    rows: Table = []
    for batch in (4, 32, 256):
        steps: dict[str, Callable[[], Any]] = {}
        for device in ("cuda", "cpu"):
            torch.manual_seed(0)
            model = RNNRNADE(56, 100, 200, 10).to(device)
            steps[device] = a_step(model, torch.randn(batch, 100, 56, device=device))
        ms = in_turns(waiting(steps))
        rows.append([str(batch), f"{ms['cuda']:.1f}", f"{ms['cpu']:.1f}",
                     f"{ms['cpu'] / ms['cuda']:.1f}"])  # fmt: skip
    head = ["sequences of 100 frames", "GPU, ms", "CPU, ms", "CPU / GPU"]
    about = "A step of training (log p, gradient, Adam) of a GRU, D 56, H 100, R 200, K 10."
    return f"{about}\n\n" + table(head, rows)


def a_step(model: RNNRNADE, frames: Tensor) -> Callable[[], Any]:
    optimiser = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimiser.zero_grad()
        (-model.log_prob(frames).mean()).backward()
        optimiser.step()

    return step


def sampling() -> str:
    rows: Table = []
    for n_samples in (1, 64, 1024):
        models = {device: RNNRNADE(56, 100, 200, 10).to(device) for device in ("cuda", "cpu")}
        actions = {
            device: lambda m=model, n=n_samples: m.sample(30, n) for device, model in models.items()
        }
        ms = in_turns(waiting(actions), 3)
        rows.append([str(n_samples), f"{ms['cuda']:.0f}", f"{ms['cpu']:.0f}",
                     f"{ms['cpu'] / ms['cuda']:.2f}"])  # fmt: skip
    head = ["samples of 30 frames", "GPU, ms", "CPU, compiled, ms", "CPU / GPU"]
    return (
        "Sampling, of the same model, whose random numbers alone are drawn on the GPU.\n\n"
        + table(head, rows)
    )


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("error: torch finds no GPU here; benchmarks.gpu measures one")
    parts = []
    for part in (density, training, sampling):
        print(f"{part.__name__} ..", file=sys.stderr)
        parts.append(part())
    machine = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}; {environment()}"
    head = f"## On a GPU\n\n`python -m benchmarks.gpu`. Machine: {machine}.\n\n"
    ON_A_GPU.write_text(head + "\n\n".join(parts) + "\n")
    print(ON_A_GPU.read_text())


if __name__ == "__main__":
    main()
