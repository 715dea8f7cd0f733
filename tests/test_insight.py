"""What is told of a run is right: likelihoods, gradients, and the page of samples."""

from __future__ import annotations

import base64
import csv
import io
import re
import warnings
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from reference import spread
from test_training import fit, read_metrics, root  # noqa: F401  fixtures
from toy import ToyDataModule, write_toy_data

from rnade_lightning import RNNRNADE
from rnade_lightning.baselines import VAR
from rnade_lightning.callbacks.likelihood import Likelihood, figures_of, ks_distance
from rnade_lightning.lightning_module import load_checkpoint, load_model


def column(folder: Path, key: str) -> dict[int, float]:
    """Values of a key by step."""
    return {int(r["step"]): float(r[key]) for r in read_metrics(folder) if r.get(key)}


# ------------------------------------------------------------------ likelihood


def test_figures_in_chunks_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnade_lightning.callbacks.likelihood.CHUNK", 7)
    model = spread(RNNRNADE(3, 4, 5, 2, "lstm", n_past=2).double())
    sequences = [(f"s{n}", torch.randn(n, 3).double()) for n in (20, 33)]
    found = figures_of(model, sequences, first=3)
    for name, frames in sequences:
        expected = model.log_prob(frames[None])[0].detach().numpy()
        np.testing.assert_allclose(found.by_frame[name], expected, rtol=1e-10)
    terms = [model.feature_cdf(x[None])[0, 3:].detach() for _, x in sequences]
    torch.testing.assert_close(found.pit, torch.cat(terms))
    some = figures_of(model, sequences, first=3, n_frames=13)  # every fourth
    assert some.by_frame["s33"] == pytest.approx(found.by_frame["s33"][::4])
    assert len(some.scored) == 4 + 8  # frames 4, 8, .. of either


def test_ks_distance_equals_scipys() -> None:
    from scipy import stats

    u = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)).double() ** 1.3
    for found, column_ in zip(ks_distance(u), u.T, strict=True):
        assert found == pytest.approx(stats.kstest(column_.numpy(), "uniform").statistic)


class Collapsed:
    """A data module whose second feature hardly moves."""

    feature_names = ("left", "stuck", "right")


@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_a_feature_that_collapses_is_counted_and_named_once(floor: float) -> None:
    model = RNNRNADE(3, 4, 5, 1, floor=floor).double()
    frames = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
    frames[:, 1] = 0
    callback = Likelihood()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as it starts, every scale is 1
        numbers = callback._numbers(figures_of(model, [("a", frames)], 3), Collapsed())
    assert numbers["n_degenerate"] == 0
    with torch.no_grad():
        model.rnade.b_sigma[1] = -20
        for mean in (model.rnade.b_mu, model.rnade.V_mu, model.W_mu):
            mean.zero_()  # where the feature is
    found = figures_of(model, [("a", frames)], 3)
    with pytest.warns(UserWarning, match=r"1 of 3 features are degenerate.*: stuck\."):
        assert callback._numbers(found, Collapsed())["n_degenerate"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        callback._numbers(found, Collapsed())


def test_baselines_are_flat_lines_of_the_validation_frames(fit: Any, root: Path) -> None:  # noqa: F811
    folder = fit("--trainer.callbacks+=Likelihood", "--trainer.callbacks.every_n_validations=1")
    data = ToyDataModule(root=str(root), window=16)
    var = VAR.fit([s.frames for s in data.sequences("train")], 3, 0.1)
    log_p = torch.cat([var.log_prob(s.frames) for s in data.sequences("val")])
    found = column(folder, "val/nll_var")
    assert len(found) == 2
    assert list(found.values()) == [pytest.approx(-log_p.mean().item())] * 2
    model = load_model(load_checkpoint(str(folder / "checkpoints" / "last.ckpt")))
    for name, frames in data.sequences("val"):
        expected = model.log_prob(frames[None])[0].mean().item()
        last = column(folder, f"val/log_p/{name}").popitem()[1]
        assert last == pytest.approx(expected, abs=1e-4)


def test_the_table_by_feature_adds_up(fit: Any) -> None:  # noqa: F811
    folder = fit()
    with open(folder / "likelihood" / "by_feature.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["feature"] for row in rows] == ["x0", "x1", "x2"]
    total = sum(float(row["log_prob"]) for row in rows)
    assert total == pytest.approx(-column(folder, "test/nll").popitem()[1], abs=1e-4)
    with open(folder / "comparison.csv") as file:
        compared = {row["name"]: float(row["log_prob"]) for row in csv.DictReader(file)}
    for key, name in (("copy_last", "copy the last frame"), ("var", "VAR(3)")):
        assert sum(float(row[key]) for row in rows) == pytest.approx(compared[name])
    with open(folder / "likelihood" / "by_frame.csv") as file:
        frames = list(csv.DictReader(file))
    assert frames[0]["var"] == "nan"  # no past
    scored = [float(row["var"]) for row in frames if row["var"] != "nan"]
    assert np.mean(scored) == pytest.approx(compared["VAR(3)"])


# ------------------------------------------------------------------ gradients


def test_gradient_norms_add_up_and_clipped_steps_are_counted(fit: Any) -> None:  # noqa: F811
    folder = fit("--trainer.log_every_n_steps=2", "--trainer.gradient_clip_val=3.0")
    total = column(folder, "grad_norm/total")
    assert total.keys() == {step for step in range(20) if step % 2 and step in total}
    names = [k for k in read_metrics(folder)[0] if k.startswith("grad_norm/")]
    own = [
        column(folder, name)
        for name in names
        if name not in ("grad_norm/total", "grad_norm/clipped")
    ]
    assert len(own) > 10
    for step, value in total.items():
        squares = sum(norms[step] ** 2 for norms in own)
        assert squares**0.5 == pytest.approx(value, rel=1e-4)
    assert all(0 <= share <= 1 for share in column(folder, "grad_norm/clipped").values())
    never = fit("--trainer.gradient_clip_val=1e9", name="never")
    assert set(column(never, "grad_norm/clipped").values()) == {0.0}
    always = fit("--trainer.gradient_clip_val=1e-9", name="always")
    assert set(column(always, "grad_norm/clipped").values()) == {1.0}


def test_every_gradient_check_is_kept(fit: Any) -> None:  # noqa: F811
    folder = fit("--trainer.callbacks=GradientCheck", "--trainer.callbacks.every_n_steps=3")
    with open(folder / "gradcheck" / "by_step.csv") as file:
        rows = list(csv.DictReader(file))
    assert {int(row["step"]) for row in rows} == {0, 3, 6, 9} - {9 + 1}
    worst = column(folder, "gradcheck/difference")
    for step, value in worst.items():
        assert value == max(float(r["difference"]) for r in rows if int(r["step"]) == step)
    assert "| rnade.W |" in (folder / "gradcheck" / "table.md").read_text()


# ------------------------------------------------------------------ the page of samples


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from test_training import options

    from rnade_lightning.__main__ import main

    tmp = tmp_path_factory.mktemp("gallery")
    data, kind = write_toy_data(tmp / "data"), "--data=toy.PlayedDataModule"
    main([
        "fit", *options(data, tmp / "runs", kind, "--trainer.max_epochs=2"),
        "--trainer.callbacks+=Samples", "--trainer.callbacks.every_n_epochs=1",
        "--trainer.callbacks.n_sequences=2",
    ])  # fmt: skip
    return tmp / "runs" / "toy" / "version_0" / "samples" / "index.html"


def test_the_page_needs_no_other_file(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)[^"']*\.(?!npy|gif|png|wav)""", text)
    assert not re.findall(r"https?://", text)
    assert "<link" not in text


def test_what_the_page_embeds_decodes(page: Path) -> None:
    text = page.read_text()
    found: dict[str, list[bytes]] = {}
    for kind, content in re.findall(r'src="data:([a-z/]+);base64,([^"]+)"', text):
        found.setdefault(kind, []).append(base64.b64decode(content))
    assert len(found["audio/wav"]) >= 3 * 8  # two sequences threefold, two samples; three times
    for sound in found["audio/wav"]:
        assert soundfile.read(io.BytesIO(sound))[1] == 8000
    for picture in found["image/png"]:
        Image.open(io.BytesIO(picture)).verify()
    players = [unescape(player) for player in re.findall(r'srcdoc="([^"]*)"', text)]
    assert '<p>test_truth & "39 frames"</p>' not in players  # the longest is cut
    assert (page.parent / "test_truth.html").read_text() in players
    assert "image/gif" not in found  # where a player is, a GIF is a link
    for link in re.findall(r'<a href="([^"]+)"', text):
        assert (page.parent / link).is_file()


def test_the_page_shows_truth_beside_what_is_generated(page: Path) -> None:
    text = page.read_text()
    for said in (
        "Truth", "Continued", "One step ahead", "Sample 2", "take0, held out", "take1, held out",
        "VAR(3)", "Likelihood", "nats a frame",
    ):  # fmt: skip
        assert said in text
    sets = [text.index(title) for title in ("Test data, weights of", "Epoch 2,", "Epoch 1,")]
    assert sets == sorted(sets)


def test_too_much_to_embed_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnade_lightning.callbacks import gallery

    sound = tmp_path / "a.wav"
    sound.write_bytes(b"x" * 100)
    shown = gallery.SampleSet("s", {"g": [gallery.Shown("t", "n", [sound])]}, [])
    gallery.write_gallery(tmp_path / "index.html", "a & b", [], [shown], [])
    assert "data:audio/wav" in (tmp_path / "index.html").read_text()
    assert "<h1>a &amp; b</h1>" in (tmp_path / "index.html").read_text()
    monkeypatch.setattr(gallery, "MAX_BYTES", 99)
    gallery.write_gallery(tmp_path / "index.html", "a & b", [], [shown], [])
    text = (tmp_path / "index.html").read_text()
    assert "data:" not in text
    assert 'href="a.wav"' in text
