"""On a GPU everything is what it is on a CPU; skipped where there is none."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from reference import named, spread
from stopped import stop
from test_rnn_experts import model_of, sound
from test_rnn_rnade import randn
from toy import column, options, process, weights

from rnade_lightning import RNNRNADE, GaussianMixture
from rnade_lightning.__main__ import main
from rnade_lightning.densities import Flow, Gaussian, LowRankGaussian, RNNDensity
from rnade_lightning.ensemble import Ensemble
from rnade_lightning.gradients import rnn_rnade_gradients
from rnade_lightning.sequence_density import SequenceDensity

GPU = torch.device(os.environ.get("RNADE_TEST_DEVICE", "cuda"))
pytestmark = pytest.mark.skipif(
    GPU.type == "cuda" and not torch.cuda.is_available(), reason="needs a GPU"
)
D = 20  # more than the features of one block of the torch path

RNN_RNADES: dict[str, dict[str, Any]] = {
    **{cell: {"cell": cell} for cell in ("sigmoid", "tanh", "gru", "lstm", "minimal_gated")},
    **{c: {"component": c} for c in ("gaussian", "laplace", "logistic", "student_t")},
    "relu, no linear paths": {"activation": "relu", "linear": False, "n_past": 0},
    "scales": {"n_scales": 3},
    "white": {"whiten": True},
    "coupled": {"whiten": True, "n_couplings": 3},
    "reverting": {"past": "reverting", "n_past": 3, "learn_kappa": True},
    "order, two layers": {"feature_order": 3, "n_layers": 2},
    "censored": {"censor_at": (-0.4, 0.7)},
    "context": {"n_context": [2, 1]},
    "context by feature": {"n_context": 2, "context_by_feature": True},
}
DENSITIES = {
    "gaussian": lambda: Gaussian(D, 0.1),
    "low rank": lambda: LowRankGaussian(D, 4, 0.1),
    "mixture": lambda: GaussianMixture(D, 3, 0.1),
    "flow": lambda: Flow(D, 8),
}


def made(name: str) -> SequenceDensity:
    if name == "experts":
        return model_of()
    if name in DENSITIES:
        torch.manual_seed(0)
        return RNNDensity(DENSITIES[name](), 6).double()
    if name == "ensemble":
        return Ensemble([made("gru"), made("order, two layers")])
    model = RNNRNADE(D, 7, 6, 3, **{"conditioned": ("alpha", "mu", "sigma")} | RNN_RNADES[name])
    model = spread(model.double(), 0.2)
    if model.root is not None:
        model.root.copy_(0.1 * randn(D, D).tril(-1) + torch.eye(D).double())
    return model


def given(model: SequenceDensity) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return frames, a mask of them, and a context if the model takes one."""
    if model.log_mass:
        frames, side = sound(9)
        return frames, {"context": side}
    frames, lengths = 2 * randn(3, 9, D), torch.tensor([[9], [4], [7]])
    more = {"mask": torch.arange(9) < lengths}
    if model.context_by_feature:
        more["context"] = randn(3, 9, D, 2, n=2)
    elif model.n_context:
        more["context"] = randn(3, 9, 3, n=2)
        more["context"][1, 2, 0] = torch.nan  # absent
    return frames, more


def moved(more: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.to(GPU) for name, value in more.items()}


def gradients(model: SequenceDensity, frames: torch.Tensor, more: Any) -> list[torch.Tensor]:
    """Return log p, and the gradients of its sum by frames and parameters."""
    frames = frames.clone().requires_grad_()
    log_p = model.log_prob(frames, **more)
    found = torch.autograd.grad(log_p.sum(), [frames, *model.parameters()], materialize_grads=True)
    return [t.detach().cpu() for t in (log_p, *found)]


every_model = pytest.mark.parametrize("name", [*RNN_RNADES, *DENSITIES, "ensemble", "experts"])


@every_model
def test_log_prob_and_every_gradient(name: str) -> None:
    if name == "flow":
        pytest.importorskip("zuko")
    model = made(name)
    frames, more = given(model)
    here = gradients(model, frames, more)
    model.to(GPU)
    there = gradients(model, frames.to(GPU), moved(more))
    for a, b in zip(there, here, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)
    single = gradients(model.float(), frames.float().to(GPU), moved(more))
    torch.testing.assert_close(single[0].double(), here[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "reverting", "scales", "context", "coupled"])
def test_algorithm_2_is_the_gradient(name: str) -> None:
    """The algorithm and autograd, both on the GPU."""
    options = RNN_RNADES[name] | {"cell": "tanh", "learn_kappa": False, "component": "gaussian"}
    torch.manual_seed(0)
    model = spread(RNNRNADE(D, 7, 6, 3, **options).double(), 0.2).to(GPU)
    frames, more = given(model)
    frames, more = frames.to(GPU), moved(more)
    kappa = {"kappa": model.kappa} if model.past == "reverting" else {}
    exact, _ = rnn_rnade_gradients(
        {k: p.detach() for k, p in named(model).items()}, frames, cell="tanh", floor=model.floor,
        root=model.root, **more, **kappa,
    )  # fmt: skip
    model.log_prob(frames, **more).sum().backward()
    for key, parameter in named(model).items():
        torch.testing.assert_close(exact[key], parameter.grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["gru", "censored", "scales", "white", "order, two layers"])
def test_the_same_noise_makes_the_same_frames(name: str) -> None:
    model = made(name)
    history = model.states(given(model)[0])[0][:, -1]
    uniform, value = model.rnade.noise((3, D), torch.Generator().manual_seed(1))
    noise = [uniform, value, uniform[:, 0]][: 3 if model.scales else 2]
    here = model.frames_of_noise(history, *noise)
    there = model.to(GPU).frames_of_noise(history.to(GPU), *(n.to(GPU) for n in noise))
    torch.testing.assert_close(there.cpu(), here)


@every_model
def test_samples_stay_on_the_device_and_are_repeated_by_a_seed(name: str) -> None:
    if name == "flow":
        pytest.importorskip("zuko")
    model = made(name).to(GPU)
    frames, more = given(model)
    own = moved({k: v for k, v in more.items() if k == "context" and not model.makes_context})
    ahead = {k: v[:1, :5] for k, v in own.items()}
    drawn = [
        model.sample(5, 2, generator=torch.Generator(GPU).manual_seed(3), **ahead) for _ in range(2)
    ]
    assert drawn[0].device.type == GPU.type
    assert drawn[0].isfinite().all()
    torch.testing.assert_close(*drawn)
    if not model.makes_context:
        mean = model.predictive_mean(frames.to(GPU), n_samples=2, **own)
        assert mean.device.type == GPU.type


@pytest.mark.parametrize("cell", ["sigmoid", "tanh", "gru", "lstm", "minimal_gated"])
def test_a_model_in_evaluation_has_gradients(cell: str) -> None:
    model = made(cell).to(GPU).eval()
    model.log_prob(given(model)[0].to(GPU)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", ["gru", "lstm", "scales", "ensemble", "experts"])
def test_chunks_steps_and_conditionals(name: str) -> None:
    model = made(name).to(GPU)
    frames, more = given(model)
    frames, context = frames.to(GPU), moved({k: v for k, v in more.items() if k == "context"})
    parts = [{k: v[:, part] for k, v in context.items()} for part in (slice(4), slice(4, None))]
    whole, last = model.log_prob_and_state(frames, **context)
    first, u = model.log_prob_and_state(frames[:, :4], **parts[0])
    second, end = model.log_prob_and_state(frames[:, 4:], u=u, **parts[1])
    torch.testing.assert_close(torch.cat((first, second), 1), whole)
    torch.testing.assert_close(end, last)
    for t in range(4, 9):
        u = model.step(frames[:, t], u, *(v[:, t] for v in context.values()))
    torch.testing.assert_close(u, last)
    if name != "ensemble":
        terms = model.feature_log_prob(frames, **context)
        torch.testing.assert_close(terms.sum(-1), whole)
        below = model.feature_cdf(frames, **context)
        assert ((below >= 0) & (below <= 1)).all()


@pytest.mark.skipif(GPU.type != "cuda", reason="needs a GPU")
@pytest.mark.parametrize("name", ["gru", "lstm", "white"])
def test_half_precision_leaves_the_density_in_full(name: str) -> None:
    model = made(name).float().to(GPU)
    frames, more = given(model)
    frames, more = frames.float().to(GPU), moved(more)
    full = model.log_prob(frames, **more)
    with torch.autocast("cuda", torch.bfloat16):
        half = model.log_prob(frames, **more)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.02, atol=0.05)


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """The host may not wait for the device: an operation that makes it is an error."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.skipif(GPU.type != "cuda", reason="needs a GPU")
@pytest.mark.parametrize("name", ["gru", "scales", "reverting"])
def test_the_host_waits_for_no_number(name: str, request: pytest.FixtureRequest) -> None:
    model = made(name).float().to(GPU)
    frames = given(model)[0].float().to(GPU)
    model.log_prob(frames).sum().backward()  # what is set up once
    request.getfixturevalue("no_waiting")
    model.log_prob(frames).sum().backward()
    with pytest.raises(RuntimeError, match="synchroniz"):
        frames.sum().item()


# ------------------------------------------------------------------ runs

ON_GPU = ("--trainer.accelerator=gpu" if GPU.type == "cuda" else "--trainer.accelerator=cpu",
          "--trainer.devices=1")  # fmt: skip


def run(root: Path, runs: Path, *more: str) -> Path:
    """Train on the device and return the run folder."""
    main(["fit", *options(root, runs, *ON_GPU, "--trainer.max_epochs=3", *more)])
    return runs / "toy" / "version_0"


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run on the device, with all that draws and checks."""
    check = ("--trainer.callbacks+=GradientCheck", "--trainer.callbacks.every_n_steps=2")
    return run(root, tmp_path_factory.mktemp("gpu"), *check)


def test_a_run_learns_and_its_gradients_are_checked(trained: Path) -> None:
    losses = list(column(trained, "val/nll").values())
    assert losses[-1] < losses[0]
    assert 0 < max(column(trained, "gradcheck/in_use").values()) < 1e-3


def test_a_checkpoint_goes_from_device_to_device(
    trained: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best = trained / "checkpoints" / "best.ckpt"
    scores = []
    for device in ("cpu", str(GPU)):
        out = tmp_path / f"{device}.csv"
        where = ("--files", str(root / "take0.npy"), "--out", str(out), "--device", device)
        main(["score", "--ckpt_path", str(best), *where])
        scores.append([float(row["log_prob"]) for row in csv.DictReader(out.open())])
        main(["sample", "--ckpt_path", str(best), "--out", str(tmp_path / device), "--device",
              device, "--n_samples=2", "--n_frames=40"])  # fmt: skip
        drawn = [np.load(p) for p in (tmp_path / device).glob("*.npy")]
        assert len(drawn) == 2
        assert all(np.isfinite(x).all() for x in drawn)
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed", "64-true"])
def test_precisions(root: Path, tmp_path: Path, precision: str) -> None:
    if GPU.type != "cuda":
        pytest.skip("needs a GPU")
    folder = run(root, tmp_path, f"--trainer.precision={precision}", "--trainer.max_epochs=2")
    assert np.isfinite([*column(folder, "val/nll").values()]).all()


@pytest.mark.slow
def test_a_resumed_run_ends_as_one_that_was_not_cut(root: Path, tmp_path: Path) -> None:
    more = ("--model.dropout=0.3", "--trainer.deterministic=warn")
    whole = run(root, tmp_path / "whole", *more)
    last = stop(root, tmp_path / "cut", 5, *ON_GPU, "--trainer.max_epochs=3", *more)
    run(root, tmp_path / "cut", *more, "--ckpt_path", str(last))
    expected = weights(whole / "checkpoints" / "last.ckpt")
    for key, found in weights(last).items():
        torch.testing.assert_close(found, expected[key], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_ranks_by_nccl(root: Path, tmp_path: Path) -> None:
    if GPU.type != "cuda":
        pytest.skip("needs a GPU")
    done = process("fit", *options(root, tmp_path, *ON_GPU, "--trainer.max_epochs=1",
                                   "--trainer.strategy=ddp"))  # fmt: skip
    assert done.returncode == 0, done.stderr
