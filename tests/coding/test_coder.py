"""Bits become the samples again, as few as the likelihood says, and wrong bits are no sound."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rnade_lightning.coding import cells, coder
from rnade_lightning.coding.coder import Coder, Model, digest_of, load
from rnade_lightning.datamodules.sound import front_end
from rnade_lightning.kernels import experts
from rnade_lightning.rnn_experts import RNNExperts


def small() -> Model:
    torch.manual_seed(0)
    weights = experts.weights_of(RNNExperts(4, 5, 8, 3, 6))
    return Model(weights, digest_of(weights))


def coder_of(n_channels: int = 1) -> Coder:
    return Coder(small(), [0] * n_channels, [0] * n_channels, 16_000)


def walk(n: int, size: float = 30.0, seed: int = 0) -> np.ndarray:
    return np.round(np.cumsum(np.random.default_rng(seed).normal(size=n) * size)).astype(np.int64)


KINDS = {
    "walk": walk(1500),
    "silence": np.zeros(600, np.int64),
    "one sample": np.array([-32768]),
    "nothing": np.zeros(0, np.int64),
    "clipped": np.clip(walk(1500, 5e3), -32768, 32767),
    "noise of 24 bits": np.random.default_rng(0).integers(-(2**23), 2**23, 800),
    "steps of 24 bits": np.repeat([2**23 - 1, -(2**23)], 300),
    "impulses": np.where(np.arange(900) % 211 == 0, 32767, 0),
}


@pytest.mark.parametrize("name", KINDS)
def test_samples_come_back(name: str) -> None:
    x = KINDS[name][:, None]
    data = coder_of().encode(x)
    assert (coder_of().decode(data, len(x)) == x).all()


def test_blocks_go_on_where_the_last_ended() -> None:
    x = walk(3000)[:, None]
    encoder, decoder = coder_of(), coder_of()
    blocks = np.split(x, [1000, 1001, 2500])
    for block in blocks:
        assert (decoder.decode(encoder.encode(block), len(block)) == block).all()


@pytest.mark.parametrize("n_channels", [2, 3])
def test_channels_come_back(n_channels: int) -> None:
    x = np.stack([walk(900, seed=i) for i in range(n_channels)], 1)
    data = coder_of(n_channels).encode(x)
    assert (coder_of(n_channels).decode(data, 900) == x).all()


def test_the_second_of_two_channels_costs_little_where_the_first_tells_it() -> None:
    x = walk(4000)
    noise = np.random.default_rng(1).integers(-1, 2, 4000)
    both = len(coder_of(2).encode(np.stack([x, x // 2 + noise], 1)))
    alone = len(coder_of(1).encode(x[:, None])) + len(coder_of(1).encode((x // 2 + noise)[:, None]))
    assert both < 0.8 * alone


def test_bits_are_those_of_the_mass() -> None:
    x, model = walk(6000), small()
    state = front_end.start(), experts.start(model.weights), model.weights
    _, low, high, _, _ = cells.ends(*state, x.astype(float), np.zeros(0), np.zeros(0))
    ideal = -np.log2(high - low).sum()  # one symbol each
    coded = 8 * len(coder_of().encode(x[:, None]))
    assert ideal < coded < 1.005 * ideal + 64


def test_wrong_bits_end_or_give_other_samples() -> None:
    x = walk(400)[:, None]
    data, rng = coder_of().encode(x), np.random.default_rng(0)
    for _ in range(20):
        wrong = bytearray(data)
        wrong[rng.integers(len(wrong))] ^= int(rng.integers(1, 256))
        try:
            found = coder_of().decode(bytes(wrong), len(x))
        except ValueError:
            continue
        assert (found != x).any()
    with pytest.raises(ValueError, match="whole number of words"):
        coder_of().decode(data[:-1], len(x))
    with pytest.raises(ValueError, match="before its parts do"):
        coder_of(2).decode(b"\xff\xff", 3)


@pytest.mark.slow
def test_another_build_computes_the_same_bits(tmp_path: Path) -> None:
    """A plain processor without wide registers, at another level of optimisation."""
    x = np.stack([walk(3000), walk(3000, seed=1)], 1)
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy as np; sys.path.insert(0, sys.argv[2]); import test_coder;"
        "x = np.load(sys.argv[1] + '/x.npy');"
        "open(sys.argv[1] + '/bits', 'wb').write(test_coder.coder_of(2).encode(x))"
    )
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_OPT": "1"}
    other |= {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    how = [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parent)]
    subprocess.run(how, env=os.environ | other, check=True)
    assert (tmp_path / "bits").read_bytes() == coder_of(2).encode(x)


def test_the_digest_tells_weights_and_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small()
    assert len(model.digest) == 8
    other = model.weights._replace(out_bias=model.weights.out_bias + np.float32(1e-7))
    assert digest_of(other) != model.digest
    monkeypatch.setattr(coder, "VERSION", coder.VERSION + 1)
    assert digest_of(model.weights) != model.digest


def test_the_shipped_model_is_small_and_codes() -> None:
    size = sum(path.stat().st_size for path in Path(coder.SHIPPED).iterdir())
    assert size < 1e6
    x = walk(300)[:, None]
    model = load(None)
    data = Coder(model, [0], [0], 16_000).encode(x)
    assert (Coder(model, [0], [0], 16_000).decode(data, 300) == x).all()
    with pytest.raises(ValueError, match="holds a RNNRNADE, which gives integers no mass"):
        load(str(Path(coder.SHIPPED).parent / "walk"))
