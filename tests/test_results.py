"""RESULTS.md agrees with the stored metrics, and its rows can be run again."""

from __future__ import annotations

import importlib
import itertools
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import yaml
from reference import spread
from toy import SMALL, write_toy_data

from rnade_lightning import RNADE
from rnade_lightning.__main__ import main

ROOT = Path(__file__).parents[1]


def benchmark(name: str) -> Any:
    """Return a fixture: a module of the benchmarks, which are beside the packages and in none."""

    def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        monkeypatch.syspath_prepend(ROOT)
        return importlib.import_module(f"benchmarks.{name}")

    return pytest.fixture(module, name=name)


MODULES = ("results", "rows", "provenance", "search", "speed")
results, rows, provenance, search, speed = map(benchmark, MODULES)


def test_both_pages_are_those_of_the_stored_metrics(results: ModuleType) -> None:
    assert (ROOT / "RESULTS.md").read_text() == results.write_results()
    readme = (ROOT / "README.md").read_text()
    assert readme == results.with_results(readme)
    with pytest.raises(ValueError, match="put them back"):
        results.with_results(readme.replace(results.MARK_END, ""))


def test_every_task_names_files_that_are_there(rows: ModuleType) -> None:
    for task, spec in rows.experiments().items():
        axes = [axis for of in spec.get("search", {}).get("rows", {}).values() for axis in of]
        searched = [{"options": options} for axis in axes for options in axis]
        known = [spec, *spec["models"].values(), *(spec.get("ablations") or {}).values()]
        for of in [*known, *searched]:
            for path in rows._as_list((of or {}).get("config", spec["config"])):
                assert (ROOT / path).is_file(), task
            for option in rows._options(of or {}):
                assert option.startswith("--"), option
                assert "=" in option, option
        assert set(spec.get("search", {}).get("rows", {})) <= set(spec["models"]), task


def test_stored_metrics_belong_to_a_row_and_name_no_place(rows: ModuleType) -> None:
    known = rows.experiments()
    for path in (ROOT / "benchmarks" / "results").glob("*/*.json"):
        found = json.loads(path.read_text())
        spec = known[found["task"]]
        assert found["name"] in spec["models"] | (spec.get("ablations") or {}), path
        for command in found["commands"]:
            for word in command.split():
                root = word.partition("--data.root=")[2]
                assert not root or root.startswith("PATH/"), path


def test_what_is_compared_in_pairs_is_what_the_table_shows(results: ModuleType) -> None:
    for task, spec in results.experiments().items():
        shown = results.numbers_of(task, spec)
        for name, blocks in results.compared(task, spec).items():
            key = spec["columns"][0][0]
            if blocks is not None and key == "log_prob":
                of_table = np.mean([figures["log_prob"] for figures in shown[name]])
                of_blocks = float(blocks.sums.sum() / blocks.frames.sum())
                assert of_blocks == pytest.approx(of_table, abs=2e-3), (task, name)
            elif blocks is not None and key in results.PAIRED:  # a constant is left out
                first = next(iter(spec["models"]))
                of_table = [np.mean([of[key] for of in shown[row]]) for row in (name, first)]
                above = blocks.above(results.compared(task, spec)[first])[0]
                assert above == pytest.approx(of_table[0] - of_table[1], abs=2e-3), (task, name)


def test_rows_were_made_by_the_same_code(results: ModuleType, provenance: ModuleType) -> None:
    """Files that two rows read are the same in both; else one has to be run again."""
    runs: list[Any] = []
    for task, spec in results.experiments().items():
        known = [*spec["models"], *(spec.get("ablations") or {})]
        runs += [run for name in known for run in results.stored(task, name)]
    assert provenance.differing(run["files"] for run in runs) == {}
    for run in runs:
        assert re.fullmatch("[0-9a-f]{40}", run["code"]), run["name"]
        assert "rnade_lightning/rnn_rnade.py" in run["files"], run["name"]


def test_a_file_that_changed_between_rows_is_found(provenance: ModuleType, tmp_path: Path) -> None:
    """Code that changed is found, a docstring and a comment that did are not."""
    path, digests = tmp_path / "a.py", []
    for text in ('"""Say."""\nx = 1\n', '"""Tell."""\nx = 1  # why\n', '"""Tell."""\nx = 2\n'):
        path.write_text(text)
        digests.append({"a.py": provenance.digest(path), "same.py": "0"})
    assert provenance.differing(digests[:2]) == {}
    assert provenance.differing(digests) == {"a.py": 2}


def test_what_a_run_reads_leaves_other_kinds_of_data_out(provenance: ModuleType) -> None:
    arguments = [f"--config={ROOT}/configs/mocap_mat.yaml", "--model.n_layers=2"]
    read = provenance.files_read(arguments, ROOT / "datamodules" / "motion")
    assert "rnade_lightning.datamodules.sound" in sys.modules
    assert {"configs/base.yaml", "configs/mocap_mat.yaml", "rnade_lightning/rnade.py"} <= set(read)
    assert "datamodules/core/frames.py" in read
    assert "datamodules/motion/mat.py" in read
    assert not any(path.startswith(("datamodules/sound", "tests", "benchmarks")) for path in read)


def test_a_checkout_with_changes_stores_nothing(
    provenance: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for words in ("init -q", "config user.email a@b", "config user.name a"):
        provenance.git(*words.split())
    (tmp_path / "a.py").write_text("x = 1\n")
    provenance.git("add", ".")
    provenance.git("commit", "-qm", "Begin")
    (tmp_path / "RESULTS.md").write_text("written by runs\n")
    commit = provenance.clean_commit()
    provenance.check_unchanged(commit, ["a.py"])
    (tmp_path / "b.py").write_text("")
    with pytest.raises(ValueError, match=r"'b.py': commit them first, or give --try"):
        provenance.clean_commit()
    (tmp_path / "a.py").write_text("x = 2\n")
    with pytest.raises(ValueError, match=r"a.py changed while the run went on"):
        provenance.check_unchanged(commit, ["a.py"])


def test_a_search_finds_the_best_and_goes_on_where_it_was(
    search: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A toy: epochs take a second each, nll falls with them, and 7 is the best of ten numbers."""
    axes = [["", *map(str, range(1, 10))], ["", "x"]]
    now, calls = [0.0], list[tuple[str, int]]()
    monkeypatch.setattr(search.time, "process_time", lambda: now[0])

    def train(options: str, epochs: int) -> float | None:
        calls.append((options, epochs))
        now[0] += epochs
        number = int("0" + options.replace("x", "").strip())
        return None if number == 3 else abs(number - 7) + ("x" in options) / 2 + 1 / epochs

    whole = search.search(tmp_path / "whole", axes, [1, 4, 16], 1.0, train, "c")
    best = search.ranked(whole, 16)[0]
    assert (best.options, best.val_nll) == ("7", 1 / 16)
    assert whole[0].options == ""  # the row as it was is the first trial
    assert {options for options, _ in calls} == {""} | {t.options for t in whole}
    rungs = [[t.options for t in search.ranked(whole, epochs)] for epochs in (1, 4, 16)]
    for before, after in itertools.pairwise(rungs):
        assert set(after) <= set(before[: -(-len(before) // 3)])
    for epochs in (1, 4, 16):  # a trial begins while its rung has minutes left
        assert sum(t.seconds for t in whole if t.epochs == epochs) < 20 + epochs

    def dies(options: str, epochs: int) -> float | None:
        if len(calls) == 10:
            raise KeyboardInterrupt
        return train(options, epochs)

    calls.clear()
    path = tmp_path / "parts"
    with pytest.raises(KeyboardInterrupt):
        search.search(path, axes, [1, 4, 16], 1.0, dies, "c")
    assert len(search.stored(path)) == 10
    assert search.search(path, axes, [1, 4, 16], 1.0, train, "c") == whole
    calls.clear()
    assert search.search(path, axes, [1, 4, 16], 1.0, train, "c") == whole
    assert calls == []  # it is over


@pytest.mark.slow
def test_a_row_runs_from_nothing(
    results: ModuleType, rows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_toy_data(tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> dict[str, object]:
        main(arguments)
        return {"files": {"a.py": "1"}, "clock": [[1, 2.0]], "peak_mib": 300}

    monkeypatch.setattr(rows, "rnade_lightning", run)
    config = yaml.safe_load("{trainer: {max_epochs: 1}}")
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(config))
    options = " ".join(o for o in SMALL if "progress" not in o)
    spec = {
        "title": "Toy", "about": "", "looked": "Once.", "config": "toy.yaml",
        "columns": [["log_prob", "log p"], ["error_of_mean", "of mean"]],
        "models": {"two": {"options": options, "members": 2}},
        "ablations": {"tanh": {"options": f"{options} --model.cell=tanh"}},
    }  # fmt: skip
    (tmp_path / "experiments.yaml").write_text(yaml.safe_dump({"toy": spec}))
    (tmp_path / "results.md.in").write_text("# Results\nTABLE\nNOT WON\n")
    for module in (rows, results):
        monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(rows, "STORE", tmp_path / "store")
    monkeypatch.setattr(rows, "check_unchanged", lambda commit, files: None)
    monkeypatch.setattr(results, "TRIED", tmp_path / "tried")
    both = rows.run("toy", "two", str(root), 0, "c" * 40)
    assert both["test"]["log_prob"] is not None
    assert set(both["baselines"]) == {"VAR", "copy the last frame"}
    assert 0 <= both["free"]["seconds"] <= both["free"]["asked"]
    assert len(both["commands"]) == 4
    one = rows.run("toy", "tanh", str(root), 0, "c" * 40)
    assert "test" not in one  # an ablation leaves the test part alone
    rows.run("toy", "tanh", str(root), 1, None)
    assert len(list((tmp_path / "store" / "toy").iterdir())) == 2  # None stores nothing
    page = results.write_results()
    assert f"{both['test']['log_prob']:.2f}" in page
    assert f"{-one['val_nll'][0]:.2f}" in page
    assert str(tmp_path) not in (tmp_path / "store" / "toy" / "two-0.json").read_text()


def test_figures_of_samples_stand_on_the_page(
    results: ModuleType, rows: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figures.csv"
    path.write_text("figure,from nothing,held-out data\nspeed,1.25,1\nseconds with data,40,\n")
    found = rows._figures(path)
    assert found["figures"]["held-out data"] == {"speed": 1.0, "seconds with data": None}
    assert rows._figures(tmp_path / "none.csv") == {}
    monkeypatch.setattr(results, "stored", lambda task, name: [found])
    lines = results.figures_of("any", {"models": {"Ours": {}}})
    assert "| speed | 1.250 | 1.000 |" in lines
    assert "| seconds with data | 40.000 |  |" in lines
    assert "Samples of a minute by Ours" in "".join(lines)
    found["free"] = {"spectral_distance_db": 2.0}
    lines = results.figures_of("any", {"models": {"Ours": {}}})
    assert "Samples of 10 s by Ours ([what they are](docs/audio.md" in "".join(lines)


def test_fewer_bits_are_better_and_a_told_row_is_marked(
    results: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "stored", lambda task, name: [])
    told = {"RNN-Experts": {"bits_per_sample": 7.5}, "FLAC": {"bits_per_sample": 8.4}}
    spec = {
        "title": "A, of B",
        "columns": [["bits_per_sample", "bits", 3]],
        "models": {"RNN-RNADE": {}},
        "told": told | {"no bits": {"bits_per_sample": None}},
    }
    rows = results.table_of("any", spec)[2:]
    assert [row.split(" |")[0] for row in rows] == ["| RNN-Experts (told)", "| FLAC (told)"]
    monkeypatch.setattr(results, "experiments", lambda: {"any": spec, "b": spec | {"not_won": "x"}})
    assert "7.500 | 8.400, FLAC | -0.900 | yes, without an error" in results.in_a_minute()[2]
    assert results.not_won() == ["- [A, of B](#a-of-b): x"]


def test_what_stays_with_the_data_is_seen_and_what_leaves_it(
    rows: ModuleType, monkeypatch: pytest.MonkeyPatch
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

    monkeypatch.setattr(rows, "load_checkpoint", lambda path: None)
    monkeypatch.setattr(rows, "load_model", lambda checkpoint: Model())
    monkeypatch.setattr(rows, "load_data", lambda checkpoint: Data())
    found = rows.free_running("x.ckpt", n_samples=2, seconds=20.0)
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
    bits = {name: b and b.in_bits(20) for name, b in blocks.items()}
    lower, best = results.in_pairs(bits, 5, higher=False)
    assert best == "Ours"  # of whose bits there are fewer
    assert float(lower["Rival"][1].split(" ± ")[0]) == pytest.approx(
        -above / 20 / np.log(2), rel=0.01
    )
    fewer = results.Blocks(ours[:39], torch.full((39,), 20.0))
    with pytest.raises(ValueError, match="on other frames"):
        fewer.above(blocks["Ours"])


def test_the_loop_that_speed_compares_with_computes_log_p(speed: ModuleType) -> None:
    model = spread(RNADE(5, 4, 3).double())
    x = torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(speed.loop_over_features(model, x), model.log_prob(x))
