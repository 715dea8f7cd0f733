"""Exported files give the model's numbers by themselves."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rnade_lightning import RNNRNADE
from rnade_lightning import export as exporting
from rnade_lightning.__main__ import main
from rnade_lightning.checkpoints import load_checkpoint, load_data, load_model
from rnade_lightning.commands import SHIPPED
from rnade_lightning.components.laplace import Laplace
from rnade_lightning.ensemble import Ensemble
from rnade_lightning.export import graphs_of, write
from rnade_lightning.rnn_experts import RNNExperts

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra export")

D, R = 3, 4
MODELS: dict[str, dict[str, Any]] = {  # every cell, component and kind of context
    "lstm": {"cell": "lstm", "n_layers": 2, "component": "student_t", "past": "reverting"},
    "gru": {"n_scales": 3, "whiten": True, "n_couplings": 2, "feature_order": 1, "n_context": 2},
    "minimal": {"cell": "minimal_gated", "component": "logistic", "feature_order": 1,
                "n_context": 2},
    "tanh": {"cell": "tanh", "censor_at": (-1.0, 1.0), "activation": "relu"},
    "sigmoid": {"cell": "sigmoid", "component": "gaussian", "linear": False, "floor": 0.0,
                "n_past": 0, "n_context": 2, "context_by_feature": True},
    "no units": {"n_hidden": 0},
}  # fmt: skip
CASES = [
    ("gru", "log_prob"), ("gru", "step"), ("gru", "draw"), ("lstm", "log_prob"), ("lstm", "draw"),
    ("minimal", "log_prob"), ("minimal", "step"), ("tanh", "log_prob"), ("tanh", "step"),
    ("sigmoid", "log_prob"), ("sigmoid", "draw"), ("no units", "draw"),
]  # fmt: skip


def model_of(**options: Any) -> RNNRNADE:
    torch.manual_seed(0)
    model = RNNRNADE(
        **{"n_features": D, "n_hidden": 5, "n_recurrent": R, "n_components": 2} | options
    )
    model.eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    if model.root is not None:
        model.root.copy_(torch.randn(D, D).tril(-1) + torch.tensor([0.5, 1.0, 2.0]).diag())
    return model


def inputs_of(model: RNNRNADE, B: int, T: int) -> dict[str, torch.Tensor]:
    """Return float32 inputs of a model of any dtype."""
    u = 0.3 * torch.randn(B, model.initial_state(1).shape[1])
    given = {"frames": torch.randn(B, T, D), "u": u}
    if model.n_context:
        given["context"] = torch.randn(B, T, model.n_context)
        given["context"][:, 0, 0] = torch.nan  # absent
    return given


def expected_of(
    graph: str, model: RNNRNADE, given: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    """Return what a graph is given, and what it has to return by the model in float64."""
    wide = {k: t.double() for k, t in given.items()}
    if graph == "log_prob":
        return given, list(model.log_prob_and_state(**wide))
    x, u = given["frames"][:, 0], given["u"]
    own = {"context": given["context"][:, 0]} if model.n_context else {}
    context = [t.double() for t in own.values()]
    history = model.history(u.double(), *context)
    if graph == "step":
        after = model.step(x.double(), u.double(), *context)
        return {"x": x, "u": u, **own}, [model.log_prob_given(history, x.double()), after]
    uniform, value = (t.float() for t in model.rnade.noise((len(x), D), None))
    more = {} if model.scales is None else {"uniform_of_scale": torch.rand(len(x))}
    wide_more = [t.double() for t in more.values()]
    drawn = model.frames_of_noise(history, uniform.double(), value.double(), *wide_more)
    inputs = {"u": u, "uniform": uniform, "noise": value, **own, **more}
    return inputs, [drawn, model.step(drawn, u.double(), *context)]


@pytest.mark.parametrize("name", MODELS)
def test_what_is_exported_is_what_the_model_samples_and_scores(name: str) -> None:
    """The frames of noise are those of a draw, and mixtures add up to the terms by feature."""
    model = model_of(**MODELS[name]).double()
    given = inputs_of(model, 4, 1)
    context = (given["context"][:, 0].double(),) if model.n_context else ()
    history = model.history(given["u"].double(), *context)
    drawn = model.sample_given(history, (), torch.Generator().manual_seed(7))
    generator = torch.Generator().manual_seed(7)
    of_scale = () if model.scales is None else (model.scales.noise((4,), generator),)
    noise = model.rnade.noise((4, D), generator)
    torch.testing.assert_close(model.frames_of_noise(history, *noise, *of_scale), drawn)
    x = given["frames"][:, 0].double()
    log_weights, means, log_scales = model.mixtures_given(history, x)
    torch.testing.assert_close(log_weights.exp().sum(-1), torch.ones_like(x))
    x = model.rnade.censor(x)
    terms = log_weights + model.rnade.component.log_prob(x[..., None], means, log_scales)
    by_feature = model.feature_log_prob_given(history, x)
    torch.testing.assert_close(torch.logsumexp(terms, -1), by_feature)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "graph"), CASES)
def test_the_files_give_the_models_numbers(name: str, graph: str) -> None:
    found = {g.name: g for g in graphs_of(model_of(**MODELS[name]).requires_grad_(False))}[graph]
    files = exporting._programs(found, "{}")
    session = onnxruntime.InferenceSession(files[".onnx"])
    loaded = torch.export.load(io.BytesIO(files[".pt2"])).module()
    model = model_of(**MODELS[name]).double()
    for B, T in ((1, 1), (2, 7)):
        given, expected = expected_of(graph, model, inputs_of(model, B, T))
        named = {k: t.numpy() for k, t in given.items()}
        for got in (
            [torch.from_numpy(t).double() for t in session.run(None, named)],
            [t.double() for t in loaded(*given.values())],
        ):
            torch.testing.assert_close(got[: len(expected)], expected, rtol=1e-5, atol=1e-5)
            if graph == "step":  # the mixtures add up to log p
                log_weights, means, log_scales = got[2:]
                x = model.rnade.censor(given["x"].double())[..., None]
                terms = log_weights + model.rnade.component.log_prob(x, means, log_scales)
                log_p = torch.logsumexp(terms, -1).sum(-1)
                torch.testing.assert_close(log_p, expected[0], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_command_exports_the_shipped_model_with_its_data(tmp_path: Path, capsys: Any) -> None:
    main(["export", f"--ckpt_path={SHIPPED}", f"--out={tmp_path}"])
    assert str(tmp_path / "draw.onnx") in capsys.readouterr().out
    about = json.loads((tmp_path / "model.json").read_text())
    checkpoint = load_checkpoint(SHIPPED)
    model, data = load_model(checkpoint), load_data(checkpoint)
    session = onnxruntime.InferenceSession(tmp_path / "log_prob.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["rnade_lightning"]) == about
    assert about["features"] == data.feature_names
    generator = torch.Generator().manual_seed(0)
    frames = model.sample(20, 2, generator=generator)[0]
    u = np.tile(np.float32(about["u_0"]), (2, 1))
    log_p, _ = session.run(None, {"frames": frames.numpy(), "u": u})
    double = model.double().log_prob(frames.double()).detach().numpy()
    np.testing.assert_allclose(log_p, double, 1e-4)  # float32 beside scales of 0.001
    raw = frames[0].double().numpy() @ np.array(about["raw"]["basis"]).T + about["raw"]["offset"]
    np.testing.assert_allclose(raw, data.destandardise(frames[0]), atol=1e-5)


@pytest.mark.slow
def test_an_ensemble_has_no_graph_of_a_draw(tmp_path: Path) -> None:
    both = Ensemble([model_of(), model_of(cell="tanh", feature_order=2)])
    assert [graph.name for graph in graphs_of(both)] == ["log_prob", "step"]
    graph = graphs_of(both)[1]
    exporting._programs(graph, "{}")


@pytest.mark.slow
def test_other_numbers_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    model, eager = model_of(), RNNRNADE.frames_of_noise

    def planted(self: RNNRNADE, history: Any, *random: Any) -> Any:
        return eager(self, history, *random) * (1 + 1e-3 * torch.compiler.is_exporting())

    monkeypatch.setattr(RNNRNADE, "frames_of_noise", planted)
    with pytest.raises(ValueError, match=r"its graph draw: x of torch.export differs"):
        exporting._programs(graphs_of(model)[2], "{}")


class Looked(Laplace):
    """A component that reads a number, which no graph can hold."""

    def log_standard(self, r: torch.Tensor) -> torch.Tensor:
        return super().log_standard(r) if r.sum().item() else r


def test_what_cannot_be_exported_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="RNNExperts computes its side information"):
        write(RNNExperts(4, 4, 4, 2), tmp_path)
    with pytest.raises(ValueError, match="RNNRNADE cannot be exported; its graph log_prob") as told:
        write(model_of(component=Looked()), tmp_path)
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'rnade-lightning\[export\]'"):
        write(model_of(), tmp_path)
