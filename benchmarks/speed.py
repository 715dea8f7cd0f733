"""Measure speed and memory of density, gradient, sampler and a whole fit, beside their peers.

``python -m benchmarks.speed`` (needs the extra ``bench``) measures everything and writes
``benchmarks/README.md``; ``--only density`` and the like measure a part and print it. In every
comparison the peers take turns in one process, and what is told is the median of the turns and its
ratio to ours; a machine's own speed cancels out of the ratios, not out of the milliseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks import red_wine
from rnade_lightning import RNADE, RNNRNADE
from rnade_lightning.__main__ import main as command_line
from rnade_lightning.lightning_module import RNNRNADEModule

SIZES = ((2000, 49, 100, 10), (1000, 200, 200, 20), (8000, 49, 50, 10), (10000, 49, 100, 2))
TURNS, EPOCHS = 7, 10
PAGE = Path(__file__).parent / "README.md"
ON_A_GPU = Path(__file__).parent / "told" / "gpu.md"
"""The section that `benchmarks.gpu` writes, on another machine."""

Table = list[list[str]]


def in_turns(actions: dict[str, Callable[[], Any]], turns: int = TURNS) -> dict[str, float]:
    """Return the median milliseconds of each action. All run once in every turn, after one
    unmeasured turn."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for turn in tqdm(range(turns + 1), leave=False, disable=not sys.stderr.isatty()):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if turn:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def table(head: list[str], rows: Table) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def size_of(sizes: tuple[int, ...]) -> str:
    return ", ".join(map(str, sizes))


# ------------------------------------------------------------------ log p and its gradient


def loop_over_features(model: RNADE, x: Tensor) -> Tensor:
    """Return the log density as the 2014 code computed it: feature by feature, the rest by
    autograd."""
    a, log_p = model.c.expand(len(x), -1), x.new_zeros(len(x))
    for d in range(x.shape[1]):
        own = model.of_features(slice(d, d + 1), model.static_params())
        log_weights, means, log_scales = model.mixtures(a[:, None], own)
        log_phi = model.component.log_prob(x[:, d, None, None], means, log_scales)
        log_p = log_p + torch.logsumexp(log_weights + log_phi, -1)[:, 0]
        a = a + x[:, d, None] * model.W[d]
    return log_p


def step_of(log_prob: Callable[[Tensor], Tensor], model: torch.nn.Module, x: Tensor) -> Any:
    def step() -> None:
        model.zero_grad()
        log_prob(x).sum().backward()

    return step


def matrix_product() -> tuple[Callable[[], Any], float]:
    """Return a large product as an action, and the number of its operations."""
    A = torch.randn(2048, 2048)
    return lambda: A @ A, 2 * 2048**3


def density() -> str:
    import zuko
    from nflows.distributions.mixture import MADEMoG

    rows: Table = []
    for N, D, H, K in SIZES:
        torch.manual_seed(0)
        x = torch.randn(N, D)
        fast, plain = RNADE(D, H, K), RNADE(D, H, K, backend="torch")
        made = MADEMoG(D, H, None, num_blocks=1, num_mixture_components=K)
        maf = zuko.flows.MAF(D, transforms=3, hidden_features=(H, H))
        product, operations = matrix_product()
        ms = in_turns(
            {
                "ours": step_of(fast.log_prob, fast, x),
                "loop": step_of(lambda x, m=plain: loop_over_features(m, x), plain, x),
                "plain": step_of(plain.log_prob, plain, x),
                "nflows": step_of(made.log_prob, made, x),
                "zuko": step_of(lambda x, f=maf: f().log_prob(x), maf, x),
                "product": product,
            }
        )
        ours, rate = ms["ours"], operations / ms["product"]
        share = 6 * N * D * H * (3 * K + 1) / ours / rate
        rows.append(
            [
                size_of((N, D, H, K)), f"{ours:.0f}", f"{ours / ms['nflows']:.2f}",
                *(f"{ms[other] / ours:.1f}" for other in ("loop", "plain", "zuko")),
                f"{100 * share:.0f} %", f"{rate / 1e6:.0f}",
            ]
        )  # fmt: skip
    head = [
        "N, D, H, K", "ours, ms", "ours / nflows MADEMoG", "autograd loop over d / ours",
        "autograd, all d / ours", "zuko MAF / ours", "share of the product's rate",
        "product, GFLOP/s",
    ]  # fmt: skip
    return (
        "## log p and its gradient\n\nForward and backward of N frames, float32. MADEMoG does the"
        " same arithmetic in the products (one block, no context); MAF has three transforms of two"
        " layers of H. The share counts 6 N D H (3 K + 1) operations, though backward computes the"
        " outputs again, against a product of two 2048 x 2048 matrices.\n\n" + table(head, rows)
    )


def growth() -> str:
    N, D, H, K = 2000, 48, 96, 8
    before: tuple[RNADE | RNNRNADE, Tensor] = RNADE(D, H, K), torch.randn(N, D)
    net = RNNRNADE(D, H, 128, K, "gru")
    pairs = {
        "N": (before, (before[0], torch.randn(2 * N, D))),
        "D": (before, (RNADE(2 * D, H, K), torch.randn(N, 2 * D))),
        "H": (before, (RNADE(D, 2 * H, K), before[1])),
        "K": (before, (RNADE(D, H, 2 * K), before[1])),
        "T": tuple((net, torch.randn(16, T, D)) for T in (128, 256)),
    }
    rows: Table = []
    for name, (one, two) in pairs.items():
        ms = in_turns({k: step_of(m.log_prob, m, x) for k, (m, x) in {"1": one, "2": two}.items()})
        rows.append([name, f"{ms['1']:.1f}", f"{ms['2']:.1f}", f"{ms['2'] / ms['1']:.2f}"])
    return (
        "## Growth\n\nForward and backward when one size doubles, from (N, D, H, K) ="
        f" ({N}, {D}, {H}, {K}); T from 128 frames of 16 sequences (GRU, R 128).\n\n"
        + table(["doubled", "before, ms", "after, ms", "ratio"], rows)
    )


# ------------------------------------------------------------------ sampling


def sampling() -> str:
    rows: Table = []
    for (D, H, K), N in (((49, 100, 10), 1), ((49, 100, 10), 64), ((200, 200, 20), 1)):
        fast, plain = RNADE(D, H, K), RNADE(D, H, K, backend="torch")
        ms = in_turns(
            {
                "ours": lambda m=fast, n=N: [m.sample((n,)) for _ in range(50)],
                "plain": lambda m=plain, n=N: [m.sample((n,)) for _ in range(5)],
            }
        )
        rows.append(
            [
                size_of((D, H, K)), str(N), f"{ms['ours'] / 50:.3f}", f"{ms['plain'] / 5:.1f}",
                f"{10 * ms['plain'] / ms['ours']:.0f}",
            ]
        )  # fmt: skip
    frames = table(["D, H, K", "N", "ours, ms", "torch loop over d, ms", "ratio"], rows)
    rows = []
    for cell, conditioned in (("gru", ("alpha", "mu", "sigma")), ("gru", ("mu",))):
        model = RNNRNADE(200, 200, 400, 20, cell, conditioned)  # type: ignore[arg-type]
        with one_thread():
            ms = in_turns({"ours": lambda m=model: m.sample(80)}, 7)
        weights = sum(p.numel() for p in model.parameters()) * 4 / 1e6
        rows.append([f"{cell}, state sets {', '.join(conditioned)}", f"{weights:.0f}",
                     f"{ms['ours'] / 1e3:.3f}"])  # fmt: skip
    sound = table(["model", "weights, MB", "seconds for a second of sound"], rows)
    return (
        "## Sampling\n\nN frames from RNADE (float32), the torch loop being the plain path:\n\n"
        f"{frames}\n\nWaveform at 16 kHz in frames of 200 samples, H 200, R 400, K 20, one"
        " sequence, one thread; all weights are read once for each of the 80 frames:\n\n"
        f"{sound}"
    )


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ------------------------------------------------------------------ a whole fit


class Timer(pl.Callback):
    """Measures the seconds of every epoch, training, validation and other callbacks, but for the
    first two."""

    times: list[float]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        now = time.perf_counter()
        if trainer.current_epoch > 2:
            Timer.times.append(now - self.start)
        self.start = now


class Empty(RNNRNADEModule):
    """A step that computes nothing: it measures Lightning's loop alone."""

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        return self.model.u_0.sum()


def fit(folder: str, *options: str, epochs: int = 12) -> float:
    """Return the median seconds of an epoch of ``fit`` with the shipped defaults."""
    Timer.times = []
    arguments = (
        f"--trainer.max_epochs={epochs}", "--trainer.enable_progress_bar=false",
        "--trainer.callbacks+=benchmarks.speed.Timer",
        f"--trainer.logger.save_dir={folder}", *options,
    )  # fmt: skip
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        command_line(["fit", "--trainer.logger=CSVLogger", *arguments])
    return statistics.median(Timer.times)


def whole_fit() -> str:
    times: dict[str, list[float]] = {"compiled": [], "torch": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(3):
            for backend, seconds in times.items():
                seconds.append(fit(folder, f"--model.backend={backend}", "--model.n_components=2"))
    fast, plain = (statistics.median(times[backend]) for backend in ("compiled", "torch"))
    return (
        "## A whole fit\n\nAn epoch of the default experiment at K = 2, `fit` with its callbacks,"
        f" CSV logger and validation (median over epochs and three runs each, in turns): {fast:.3f}"
        f" s, and {plain:.3f} s with `--model.backend torch` (autograd, all features at once):"
        f" **{plain / fast:.1f} times**.\n\n" + rest_of_a_step()
    )


def rest_of_a_step() -> str:
    """Return the time of a step beside log p, its gradient and Lightning's own loop."""
    from rnade_lightning.datamodules import AudioDataModule, FrameDataModule, MocapDataModule

    rows: Table = []
    experiments: dict[str, tuple[FrameDataModule, dict[str, Any]]] = {
        "a plain model of motion": (MocapDataModule(batch_size=8), {
            "conditioned": ["mu", "sigma"], "component": "laplace", "floor": 0.01, "linear": True,
            "n_past": 1, "learn_past": False, "dropout": 0.5, "cell": "gru"}),
        "audio_demo (log mel)": (
            AudioDataModule(kind="log_mel", n_mels=40, window=96, split="file", batch_size=8),
            {"n_components": 3, "floor": 0.05, "dropout": 0.1, "linear": True, "cell": "gru",
             "conditioned": ["mu", "sigma"]}),
    }  # fmt: skip
    for name, (data, options) in experiments.items():
        data.setup()
        modules = {
            kind.__name__: kind(data.n_features, **options) for kind in (RNNRNADEModule, Empty)
        }
        batch = next(iter(data.train_dataloader()))
        model = modules["RNNRNADEModule"].model

        def gradient(model: Any = model, batch: Any = batch) -> None:
            model.zero_grad()
            log_p = model.log_prob(batch["frames"], batch["mask"])
            (-(log_p * batch["mask"]).sum() / batch["mask"].sum()).backward()

        trainers = {
            key: (lambda m=module, d=data: trainer(EPOCHS).fit(m, datamodule=d))
            for key, module in modules.items()
        }
        n_steps = EPOCHS * len(data.train_dataloader())
        ms = in_turns(trainers, 5)
        step, empty = ms["RNNRNADEModule"] / n_steps, ms["Empty"] / n_steps
        alone = in_turns({"gradient": gradient}, 20)["gradient"]
        rest = step - empty - alone
        rows.append(
            [name, f"{step:.2f}", f"{alone:.2f}", f"{empty:.2f}", f"{rest:.2f}",
             f"{100 * rest / step:.0f} %"]
        )  # fmt: skip
    head = [
        "experiment", "a step, ms", "log p and gradient alone", "empty step", "rest", "of the step",
    ]  # fmt: skip
    return (
        "A training step in Lightning, without loggers and callbacks; the empty step has the same"
        " loader, optimiser and loop:\n\n" + table(head, rows)
    )


def trainer(epochs: int) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0,
        gradient_clip_val=5.0,
    )  # fmt: skip


# ------------------------------------------------------------------ memory

_MEMORY = """
import sys, torch
from pathlib import Path
from rnade_lightning import RNNRNADE
def peak():
    return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 2**20
N, D, H, R, K = 100_000, 200, 200, 400, 20
backend = sys.argv[1]
model = RNNRNADE(D, H, R, K, 'gru', backend=backend)
frames = torch.randn(100, N // 100, D)
model.log_prob(frames[:1, :100]).sum().backward()
seen = model.states(frames)[0].detach()
before = peak()
model.density.log_prob(frames, model.frame_params(seen)).sum().backward()
density = peak() - before
model.zero_grad()
model.log_prob(frames).sum().backward()
print(density, peak(), 4 * N * (H + R + 3 * K) * 4 / 2**30)
"""


def memory() -> str:
    done = subprocess.run(
        [sys.executable, "-c", _MEMORY, "compiled"], capture_output=True, text=True, check=True
    )
    extra, whole, allowed = map(float, done.stdout.split())
    return (
        "## Memory\n\nN = 100,000 frames, D 200, H 200, R 400, K 20, float32: forward and backward"
        f" of the density add {extra:.2f} GiB to the peak (4 N (H + R + 3 K) numbers are"
        f" {allowed:.2f} GiB); the whole process with torch, frames, states and gradients peaks at"
        f" {whole:.2f} GiB. Biases of all frames would be 4.5 GiB, all hidden units 14.9 GiB."
    )


PARTS = {"density": density, "growth": growth, "sampling": sampling, "fit": whole_fit,
         "memory": memory}  # fmt: skip


def environment() -> str:
    cpu = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        names = [s for s in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in s]
        cpu = names[0].split(":")[1].strip()
    packages = ("torch", "numba", "pytorch-lightning", "nflows", "zuko")
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return (
        f"{cpu}, {torch.get_num_threads()} threads, Python {platform.python_version()}, {versions}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", help="measure these, and print them")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.only:
        for name in arguments.only:
            print(PARTS[name](), "\n")
        return
    parts = []
    for name, part in PARTS.items():
        print(f"{name} ..", file=sys.stderr)
        parts.append(part())
    parts += [red_wine.section(), ON_A_GPU.read_text().strip()]
    head = (
        "# Benchmarks\n\nWritten by `python -m benchmarks.speed` (`pip install -e '.[bench]'`)."
        f" Machine: {environment()}. Medians of {TURNS} turns or as stated; peers take turns in one"
        " process. Ratios mean more than milliseconds. The data side is measured by `python -m"
        " benchmarks.data` (see [the frame store](../docs/data_store.md#measured)).\n\n"
    )
    PAGE.write_text(head + "\n\n".join(parts) + "\n")
    print(PAGE)


if __name__ == "__main__":
    from benchmarks import speed  # the module that the command line finds `Timer` in

    speed.main()
