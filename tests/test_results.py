"""RESULTS.md agrees with the stored metrics, and its rows can be run again."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
import torch
import yaml
from toy import SMALL, write_toy_data

from rnade_lightning.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module, which is beside the packages and not in one."""
    monkeypatch.syspath_prepend(ROOT)  # it imports its neighbours as benchmarks.*
    spec = importlib.util.spec_from_file_location("results", ROOT / "benchmarks" / "results.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "results", module)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_that_of_the_stored_metrics(results: ModuleType) -> None:
    assert (ROOT / "RESULTS.md").read_text() == results.write_results()


def test_every_task_names_files_that_are_there(results: ModuleType) -> None:
    for task, spec in results.experiments().items():
        rows = [spec, *spec["models"].values(), *(spec.get("ablations") or {}).values()]
        for of in rows:
            for path in results._as_list((of or {}).get("config", spec["config"])):
                assert (ROOT / path).is_file(), task
            for option in results._options(of or {}):
                assert option.startswith("--"), option
                assert "=" in option, option


def test_stored_metrics_belong_to_a_row_and_name_no_place(results: ModuleType) -> None:
    known = results.experiments()
    for path in (ROOT / "benchmarks" / "results").glob("*/*.json"):
        found = json.loads(path.read_text())
        spec = known[found["task"]]
        assert found["name"] in spec["models"] | (spec.get("ablations") or {}), path
        for command in found["commands"]:
            for word in command.split():
                root = word.partition("--data.root=")[2]
                assert not root or root.startswith("PATH/"), path


@pytest.mark.slow
def test_a_row_runs_from_nothing(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_toy_data(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results, "rnade_lightning", lambda *arguments: main(arguments))
    config = yaml.safe_load("{trainer: {max_epochs: 1}}")
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(config))
    options = " ".join(o for o in SMALL if "progress" not in o)
    spec = {
        "title": "Toy", "about": "", "config": "toy.yaml",
        "columns": [["log_prob", "log p"], ["error_of_mean", "of mean"]],
        "models": {"two": {"options": options, "members": 2}},
        "ablations": {"tanh": {"options": f"{options} --model.cell=tanh"}},
    }  # fmt: skip
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"toy": spec}))
    (tmp_path / "results.md.in").write_text("# Results\n")
    monkeypatch.setattr(results, "HERE", tmp_path)
    monkeypatch.setattr(results, "STORE", tmp_path / "store")
    monkeypatch.setattr(results, "TRIED", tmp_path / "tried")
    both = results.run("toy", "two", str(root), 0)
    assert both["test"]["log_prob"] is not None
    assert set(both["baselines"]) == {"VAR", "copy the last frame"}
    assert 0 <= both["free"]["seconds"] <= both["free"]["asked"]
    assert len(both["commands"]) == 4
    one = results.run("toy", "tanh", str(root), 0)
    assert "test" not in one  # an ablation leaves the test part alone
    page = results.write_results()
    assert f"{both['test']['log_prob']:.2f}" in page
    assert f"{-one['val_nll'][0]:.2f}" in page
    assert str(tmp_path) not in (tmp_path / "store" / "toy" / "two-0.json").read_text()


def test_figures_of_samples_stand_on_the_page(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figures.csv"
    path.write_text("figure,from nothing,held-out data\nspeed,1.25,1\nseconds with data,40,\n")
    found = results._figures(path)
    assert found["figures"]["held-out data"] == {"speed": 1.0, "seconds with data": None}
    assert results._figures(tmp_path / "none.csv") == {}
    monkeypatch.setattr(results, "stored", lambda task, name: [found])
    lines = results.figures_of("any", {"models": {"Ours": {}}})
    assert "| speed | 1.250 | 1.000 |" in lines
    assert "| seconds with data | 40.000 |  |" in lines
    assert "Samples of a minute by Ours" in "".join(lines)
    found["free"] = {"spectral_distance_db": 2.0}
    lines = results.figures_of("any", {"models": {"Ours": {}}})
    assert "Samples of 10 s by Ours ([what they are](docs/audio.md" in "".join(lines)


def test_what_stays_with_the_data_is_seen_and_what_leaves_it(
    results: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample that is data survives; one that doubles every second does not."""
    t = torch.arange(3000) / 30
    wave = torch.stack([torch.sin(3 * t), torch.cos(2 * t)], -1)

    class Data:
        frame_rate, given = 30.0, None
        layout: ClassVar[dict[str, int]] = {}

        def sequences(self, part: str) -> list[object]:
            return [type("Sequence", (), {"frames": wave})]

    class Model:
        def sample(self, n_frames: int, n_samples: int, generator: object) -> torch.Tensor:
            steady = wave[:n_frames]
            growing = steady * 2 ** t[:n_frames, None]
            return torch.stack([steady, growing])[None]

    monkeypatch.setattr(results, "load_checkpoint", lambda path: None)
    monkeypatch.setattr(results, "load_model", lambda checkpoint: Model())
    monkeypatch.setattr(results, "load_data", lambda checkpoint: Data())
    found = results.free_running("x.ckpt", n_samples=2, seconds=20.0)
    assert found["survive"] == 0.5
    assert 10 <= found["seconds"] <= 12


def test_rows_are_compared_in_pairs_and_the_leader_needs_two_errors(results: ModuleType) -> None:
    """A rival 1 below on every frame but for noise, in blocks of 20 frames."""
    generator = torch.Generator().manual_seed(0)
    ours = 100 * torch.randn(40, generator=generator, dtype=torch.float64)
    noise = 20 * torch.randn(40, generator=generator, dtype=torch.float64)
    runs = [{"blocks": {"frames": [20] * 40, "Ours": (ours + d).tolist()}} for d in (-3.0, 3.0)]
    rival = [{"blocks": {"frames": [20] * 40, "Rival": (ours - 20 + noise).tolist()}}]
    blocks = {"Ours": results.Blocks.of(runs), "Rival": results.Blocks.of(rival), "Old": None}
    assert results.Blocks.of(runs, "VAR") is None
    cells, leader = results.in_pairs(blocks)
    assert (cells["Old"], cells["Ours"][1], leader) == (["", ""], "", "Ours")
    above, error = map(float, cells["Rival"][1].split(" ± "))
    assert above == pytest.approx(-1, abs=3 * error)
    assert error == pytest.approx(1 / 40**0.5, rel=0.25)  # of one block 20 / 20
    assert float(cells["Ours"][0]) > 3 * error  # of log p alone
    wide = results.Blocks(blocks["Ours"].sums - 1 + 10 * noise, blocks["Ours"].frames)
    assert results.in_pairs({"Ours": blocks["Ours"], "Rival": wide})[1] is None
    fewer = results.Blocks(ours[:39], torch.full((39,), 20.0))
    with pytest.raises(ValueError, match="on other frames"):
        fewer.above(blocks["Ours"])
