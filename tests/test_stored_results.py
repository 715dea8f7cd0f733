"""Stored results are read as they were written, and damaged ones are refused in a line."""

from __future__ import annotations

import importlib
import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TASK = "mocap_mat"
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    """Return the tasks that the tests look at."""
    known = yaml.safe_load((ROOT / "benchmarks" / "experiments.yaml").read_text())
    return {task: known[task] for task in (TASK, "speech", "speech_bits")}


@pytest.fixture
def bench(
    tasks: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> SimpleNamespace:
    """Return modules of the benchmarks that read a copy of the stored results, and its place."""
    monkeypatch.syspath_prepend(ROOT)
    names = ("results", "rows", "search", "stored")
    of = SimpleNamespace(**{n: importlib.import_module(f"benchmarks.{n}") for n in names})
    of.store = tmp_path / "results"
    for task in (TASK, "speech", "search"):
        shutil.copytree(ROOT / "benchmarks" / "results" / task, of.store / task)
    monkeypatch.setattr(of.rows, "STORE", of.store)
    monkeypatch.setattr(of.search, "FOUND", of.store / "search")
    for module in (of.rows, of.results):
        monkeypatch.setattr(module, "experiments", lambda: tasks)
    return of


def edit(path: Path, change: Change) -> None:
    """Change the metrics in a file."""
    metrics = json.loads(path.read_text())
    change(metrics)
    path.write_text(json.dumps(metrics))


def put(*places: str, value: Any) -> Change:
    """Return a change that puts a value at a place."""

    def change(metrics: Any) -> None:
        for place in places[:-1]:
            metrics = metrics[place]
        metrics[places[-1]] = value

    return change


def take(*places: str) -> Change:
    """Return a change that takes away what is at a place."""

    def change(metrics: Any) -> None:
        for place in places[:-1]:
            metrics = metrics[place]
        del metrics[places[-1]]

    return change


def add(*places: str, by: float) -> Change:
    """Return a change that adds to the number at a place."""

    def change(metrics: Any) -> None:
        for place in places[:-1]:
            metrics = metrics[place]
        metrics[places[-1]] += by

    return change


CHANGES: dict[str, tuple[Change, str]] = {
    "a null": (
        put("test", "error_of_samples", value=None),
        "test.error_of_samples is missing or null, which other seeds",
    ),
    "log p null": (put("test", "log_prob", value=None), "test.log_prob is null, but the mean"),
    "a NaN": (
        put("test", "energy_score", value=math.nan),
        "test.energy_score is NaN, which is no number",
    ),
    "a figure that is away": (
        take("test", "error_of_mean"),
        "test.error_of_mean is missing or null, which other seeds",
    ),
    "a figure that is a text": (put("test", "log_prob", value="1"), 'test.log_prob is "1", which'),
    "no seconds of samples": (put("free", value={}), "free.asked is missing or null"),
    "no blocks": (take("blocks"), "blocks is missing or null, which other seeds"),
    "no blocks of a baseline": (take("blocks", "VAR"), "blocks.VAR is missing or null"),
    "frames of blocks in another order": (
        lambda of: of["blocks"]["frames"].reverse(),
        "the frames of blocks are not those of seed 0, in the same order",
    ),
    "frames of validation in another order": (
        lambda of: of["val_blocks"]["frames"].reverse(),
        "the frames of val_blocks are not those of seed 0",
    ),
    "a block less": (lambda of: of["blocks"]["RNNRNADE"].pop(), "blocks.RNNRNADE does not hold"),
    "a NaN among blocks": (
        lambda of: put("blocks", "RNNRNADE", value=[math.nan, *of["blocks"]["RNNRNADE"][1:]])(of),
        "blocks.RNNRNADE.0 is NaN",
    ),
    "infinity among blocks": (
        lambda of: put("blocks", "VAR", value=[-math.inf, *of["blocks"]["VAR"][1:]])(of),
        "blocks.VAR holds an infinite number",
    ),
    "a second model among blocks": (
        lambda of: put("blocks", "RNNDensity", value=of["blocks"]["RNNRNADE"])(of),
        "blocks of one model are wanted, not of RNNRNADE, RNNDensity",
    ),
    "another task": (put("task", value="motion"), "task 'motion' is not that of its place"),
    "another name": (put("name", value="RNN-GMM"), "name 'RNN-GMM' is not that of its place"),
    "another seed": (put("seed", value=0), "seed 0 is not that of its place, 1"),
    "other features": (put("features", value=48), "features 48 differ from those of seed 0, 49"),
    "other frames": (put("frames", "test", value=765), "differ from those of seed 0"),
    "no code": (take("code"), "code is missing"),
    "no test": (take("test"), "test is missing"),
    "log p that is not of its blocks": (
        add("test", "log_prob", by=0.01),
        "but the mean of its blocks is",
    ),
    "log p of a baseline that is not of its blocks": (
        add("baselines", "VAR", "log_prob", by=0.01),
        "baselines.VAR.log_prob is",
    ),
    "a validation nll that is not of its blocks": (put("val_nll", value=[-60.0]), "val_nll is"),
    "a list": (lambda of: put("test", value=[])(of), "test is no object"),
}  # fmt: skip


def is_a_line_about(error: Exception, path: Path, row: str, seed: int) -> bool:
    """Return whether an error is one line that names a file and the command that mends it."""
    said = str(error)
    again = f"python -m benchmarks.results run {path.parent.name} {row} --seeds {seed}"
    return said.startswith(f"{path}: ") and said.endswith(f"; run it again with {again}")


def test_files_that_nobody_touched_are_read(bench: SimpleNamespace) -> None:
    for task, spec in bench.rows.experiments().items():
        for name in [*spec["models"], *(spec.get("ablations") or {})]:
            found = bench.stored.stored(task, name)
            paths = sorted((bench.store / task).glob(f"{bench.rows.slug(name)}-?.json"))
            assert found == [json.loads(path.read_text()) for path in paths]
    diverged = [run["test"]["error_of_mean"] for run in bench.stored.stored(TASK, "RNN-MAF")]
    assert math.isinf(diverged[0])  # which is a number, of a mean that has none


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_file_is_refused_in_a_line(bench: SimpleNamespace, what: str) -> None:
    change, said = CHANGES[what]
    path = bench.store / TASK / "rnn-rnade-1.json"
    edit(path, change)
    with pytest.raises(bench.stored.Refused, match=re.escape(said)) as caught:
        bench.stored.stored(TASK, "RNN-RNADE")
    assert is_a_line_about(caught.value, path, "RNN-RNADE", 1), caught.value
    assert "\n" not in str(caught.value)


def test_what_the_first_seed_lacks_is_told_of_its_file(bench: SimpleNamespace) -> None:
    edit(bench.store / TASK / "rnn-rnade-0.json", put("test", "error_of_mean", value=None))
    with pytest.raises(bench.stored.Refused, match=r"rnn-rnade-0\.json: test\.error_of_mean"):
        bench.stored.stored(TASK, "RNN-RNADE")
    for seed in (1, 2):  # none has it: the cell is empty
        path = bench.store / TASK / f"rnn-rnade-{seed}.json"
        edit(path, put("test", "error_of_mean", value=None))
    assert len(bench.stored.stored(TASK, "RNN-RNADE")) == 3


def test_bits_that_do_not_fit_log_p_are_refused(bench: SimpleNamespace) -> None:
    path = bench.store / "speech" / "rnn-gmm-k-10-2.json"
    edit(path, add("test", "bits_per_sample", by=-0.01))
    with pytest.raises(bench.stored.Refused, match=r"test\.bits_per_sample differs") as caught:
        bench.stored.stored("speech", "RNN-GMM, K 10")
    assert is_a_line_about(caught.value, path, "'RNN-GMM, K 10'", 2), caught.value


@pytest.mark.parametrize("text", ["", "{", "[1]", None, b"\xff\xfe{"])
def test_a_file_that_was_cut_ends_the_command_in_a_line(
    bench: SimpleNamespace,
    text: str | bytes | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    path = bench.store / TASK / "rnn-rnade-2.json"
    whole = path.read_bytes()
    path.write_bytes(
        whole[:5000] if text is None else text if isinstance(text, bytes) else text.encode()
    )
    (tmp_path / "README.md").write_text(f"{bench.results.MARK_START}\n{bench.results.MARK_END}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["results"])
    with pytest.raises(SystemExit) as end:
        bench.results.main()
    said = str(end.value.code)  # a text is printed, with the exit status 1
    assert said.startswith(f"error: {path}: this is no ")
    assert said.endswith(
        "; run it again with python -m benchmarks.results run mocap_mat RNN-RNADE --seeds 2"
    )
    assert "\n" not in said
    assert not (tmp_path / "RESULTS.md").exists()


def test_blocks_are_read_by_their_names(bench: SimpleNamespace) -> None:
    spec = bench.rows.experiments()[TASK]
    before = bench.results.table_of(TASK, spec)

    def turn(of: dict[str, Any]) -> None:
        of["blocks"] = dict(reversed(of["blocks"].items()))

    for seed in range(3):
        edit(bench.store / TASK / f"rnn-rnade-{seed}.json", turn)
    assert bench.results.table_of(TASK, spec) == before


def test_rows_that_were_tested_on_other_frames_are_refused(bench: SimpleNamespace) -> None:
    spec = bench.rows.experiments()[TASK]
    for seed in range(3):
        path = bench.store / TASK / f"rnn-gmm-{seed}.json"
        edit(path, lambda of: [row.reverse() for row in of["blocks"].values()])
    with pytest.raises(bench.stored.Refused, match=r"rnn-gmm-0\.json: .* not those of RNN-RNADE"):
        bench.results.table_of(TASK, spec)
    edit(
        bench.store / TASK / "no-couplings-0.json",
        lambda of: [row.reverse() for row in of["val_blocks"].values()],
    )
    with pytest.raises(
        bench.stored.Refused, match=r"no-couplings-0\.json: .* the model as shipped"
    ):
        bench.results.ablations_of(TASK, spec)


def test_seeds_of_two_digits_are_read_in_their_order(bench: SimpleNamespace) -> None:
    for old, seed in ((1, 10), (0, 11)):
        path = bench.store / TASK / f"rnn-rnade-{old}.json"
        edit(path, put("seed", value=seed))
        path.rename(path.with_name(f"rnn-rnade-{seed}.json"))
    (bench.store / TASK / "rnn-rnade-2014-0.json").write_text("of another row")
    seeds = [run["seed"] for run in bench.stored.stored(TASK, "RNN-RNADE")]
    assert seeds == [2, 10, 11]


def test_a_row_that_was_not_run_has_no_verdict(bench: SimpleNamespace) -> None:
    before = {line.split(" | ")[0]: line for line in bench.results.in_a_minute()}
    for path in (bench.store / TASK).glob("rnn-rnade-?.json"):
        path.unlink()
    after = {line.split(" | ")[0]: line for line in bench.results.in_a_minute()}
    (changed,) = [line for key, line in after.items() if before[key] != line]
    assert changed.split(" | ")[2:] == ["not run", "47.43, RNN-GMM", "", "", "", " |"]
    table = bench.results.table_of(TASK, bench.rows.experiments()[TASK])
    assert "above RNN-GMM" in table[0]  # whose differences they are now
    assert not any("nan" in line for line in table)


@pytest.mark.parametrize("damage", [lambda line: line[:-20], lambda _: "[]", lambda _: '{"a": 1}'])
def test_a_search_whose_file_is_damaged_is_refused_in_a_line(
    bench: SimpleNamespace, damage: Callable[[str], str]
) -> None:
    path = bench.store / "search" / TASK / "rnn-maf.jsonl"
    *lines, last = path.read_text().splitlines()
    assert len(bench.search.of_row(TASK, "RNN-MAF")) == len(lines) + 1
    path.write_text("\n".join([*lines, damage(last)]))
    n = len(lines) + 1
    with pytest.raises(bench.stored.Refused, match=f"line {n} of {n} is no whole trial") as caught:
        bench.search.of_row(TASK, "RNN-MAF")
    assert str(caught.value).startswith(f"{path}: ")
    assert "delete the line" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("minutes", ["0", "-1", "nan", "inf", "ten"])
def test_a_search_of_no_minutes_is_refused(
    bench: SimpleNamespace,
    minutes: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["search", TASK, "RNN-RNADE", f"--minutes={minutes}"])
    with pytest.raises(SystemExit) as end:
        bench.search.main()
    assert end.value.code == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"--minutes: '{minutes}' is no number of minutes above 0" in said
