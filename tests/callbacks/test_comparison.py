"""The table after ``test`` has what the data declare beside what any data have."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import DeclaringDataModule, ToyDataModule, column, options

from rnade_lightning.__main__ import main
from rnade_lightning.checkpoints import load_checkpoint, load_model


@pytest.fixture(scope="module")
def rows(root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    runs = tmp_path_factory.mktemp("runs")
    more = ("--data=toy.DeclaringDataModule", "--trainer.max_epochs=1")
    main(["fit", *options(root, runs, *more)])
    assert "half of the frames are made up" in next(runs.rglob("comparison.md")).read_text()
    with open(runs / "toy" / "version_0" / "comparison.csv") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_known_process_and_references_are_rows(
    rows: dict[str, dict[str, str]], root: Path
) -> None:
    assert list(rows) == [
        "RNNRNADE", "VAR", "copy the last frame", "the process itself", "a flat guess",
    ]  # fmt: skip
    assert float(rows["a flat guess"]["log_prob"]) == -7
    assert rows["a flat guess"]["error_of_mean"] == ""
    frames = torch.cat(
        [x[3:] for _, x in DeclaringDataModule(str(root), window=16).sequences("test")]
    )
    error = frames.square().sum(-1).mean().item()  # of a process whose mean is 0
    assert float(rows["the process itself"]["error_of_mean"]) == pytest.approx(error)
    assert float(rows["the process itself"]["error_of_samples"]) == pytest.approx(error + 3)


@pytest.mark.slow
def test_bits_are_a_column_where_data_have_them(rows: dict[str, dict[str, str]]) -> None:
    for row in rows.values():
        assert float(row["bits_per_sample"]) == pytest.approx(-2 * float(row["log_prob"]))


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run folder and its data: a feature is at rest but in the test part of one file."""
    root, runs = tmp_path_factory.mktemp("moves"), tmp_path_factory.mktemp("runs")
    for i in range(2):
        frames = np.random.default_rng(i).normal(size=(100, 4)).cumsum(axis=0)
        frames[:, 3] = 7.0
        if i:
            frames[90:, 3] += 1.0  # 10 of the 40 test frames, all of them scored
        np.save(root / f"take{i}.npy", frames)
    more = ("--trainer.max_epochs=1", "--trainer.callbacks+=Comparison")
    more += ("--trainer.callbacks+=Samples", "--trainer.callbacks.n_sequences=2")
    main(["fit", *options(root, runs, *more)])
    return runs / "toy" / "version_0", root


@pytest.mark.slow
def test_a_frame_that_breaks_a_relation_has_density_0_in_every_row(
    broken: tuple[Path, Path],
) -> None:
    folder, root = broken
    with open(folder / "comparison.csv") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["log_prob"]) for row in rows] == [-np.inf] * len(rows)
    text = (folder / "comparison.md").read_text()
    assert "of the other 24 of 34 frames" in text
    assert "10 break a relation of the training data" in text
    with open(folder / "likelihood" / "by_frame.csv") as file:
        found = [row for row in csv.DictReader(file) if row["sequence"] == "take1"]
    assert [row["log_prob"] == "-inf" for row in found] == [False] * 10 + [True] * 10
    assert column(folder, "test/nll").popitem()[1] == np.inf
    checkpoint = folder / "checkpoints" / "best.ckpt"
    main(["score", f"--ckpt_path={checkpoint}", f"--files={root}", f"--out={folder / 's.csv'}"])
    with open(folder / "s.csv") as file:
        scored = [row for row in csv.DictReader(file) if row["breaks"]]
    assert [(row["file"], int(row["frame"])) for row in scored] == [
        ("take1", t) for t in range(90, 100)
    ]
    assert {(row["breaks"], row["log_prob"]) for row in scored} == {("x3", "-inf")}


@pytest.mark.slow
def test_a_prefix_that_breaks_a_relation_is_told_and_written_as_it_was_given(
    broken: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, root = broken
    checkpoint, prefix = folder / "checkpoints" / "best.ckpt", root / "take1.npy"
    command = ["sample", f"--ckpt_path={checkpoint}", f"--prefix={prefix}", f"--out={tmp_path}"]
    command += ["--n_prefix=95", "--n_frames=5", "--n_samples=1"]
    with pytest.warns(UserWarning, match="break a relation of the training data in x3"):
        main(command)
    (path,) = tmp_path.glob("*.npy")
    written = np.load(path)
    np.testing.assert_array_equal(written[:95], np.load(prefix)[:95])
    np.testing.assert_allclose(written[95:, 3], 7.0)


@pytest.mark.slow
def test_no_file_of_a_run_gives_frames_that_break_a_relation_a_density(
    broken: tuple[Path, Path],
) -> None:
    metrics = json.loads((broken[0] / "samples" / "test_metrics.json").read_text())
    assert metrics["truth_2"]["log_prob"] == -np.inf
    assert np.isfinite(metrics["truth"]["log_prob"])
    assert np.isfinite(metrics["one_step_2"]["log_prob"])  # the model's own frames


@pytest.mark.slow
def test_further_rivals_are_fitted_to_sequences_from_their_beginning(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of some kinds of sound cannot be turned back from the middle of a file."""
    given: list[Any] = []

    def references(self: Any, known: Any, test: Any) -> dict[str, Any]:
        given.extend(
            (x.name, x.raw, part)
            for part, found in zip("kt", (known, test), strict=True)
            for x in found
        )
        return {"a flat guess": [torch.full((len(x.frames),), -7.0) for x in test]}

    monkeypatch.setattr(ToyDataModule, "references", references)
    few = ("--trainer.callbacks+=Comparison", "--trainer.callbacks.max_frames=80")
    main(["fit", *options(root, tmp_path, "--trainer.max_epochs=1", "--data.split=file", *few)])
    whole = {path.stem: np.load(path) for path in root.glob("*.npy")}
    assert {part for *_, part in given} == {"k", "t"}
    for name, raw, _ in given:
        np.testing.assert_array_equal(np.asarray(raw), whole[name][: len(raw)])
    text = (tmp_path / "toy" / "version_0" / "comparison.md").read_text()
    assert "those below them on" in text


@pytest.mark.slow
def test_the_other_frames_have_the_mean_that_they_had(broken: tuple[Path, Path]) -> None:
    folder, root = broken
    data = ToyDataModule(str(root), window=16)
    model = load_model(load_checkpoint(str(folder / "checkpoints" / "best.ckpt")))
    found = []
    for sequence in data.sequences("test"):
        log_p = model.log_prob(sequence.frames[None])[0].detach()
        found.append(log_p[3:][~sequence.log_jacobian[3:].isneginf()])
    with open(folder / "comparison.csv") as file:
        (row, *_) = csv.DictReader(file)
    assert float(row["log_prob_of_others"]) == pytest.approx(
        torch.cat(found).mean().item(), rel=1e-4
    )


@pytest.mark.slow
def test_log_p_is_of_all_frames_and_errors_of_some_of_every_file(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever pieces are looked at together."""
    folders = []
    for piece in (4096, 7):
        monkeypatch.setattr("rnade_lightning.callbacks.comparison.PIECE", piece)
        runs = tmp_path / str(piece)
        few = ("--trainer.callbacks+=Comparison", "--trainer.callbacks.max_frames=20")
        main(["fit", *options(root, runs, "--trainer.max_epochs=1", *few)])
        folders.append(runs / "toy" / "version_0")
    tables = []
    for folder in folders:
        with open(folder / "comparison.csv") as file:
            tables.append({row["name"]: row for row in csv.DictReader(file)})
        nll = column(folder, "test/nll").popitem()[1]
        assert float(tables[-1]["RNNRNADE"]["log_prob"]) == pytest.approx(-nll, abs=1e-4)
        text = (folder / "comparison.md").read_text()
        assert "30 test frames" in text
        assert "spread over all files" in text
        assert "They are fitted on" in text
    for name, row in tables[0].items():
        for key in ("log_prob", "error_of_mean"):
            if name != "RNNRNADE" or key == "log_prob":  # its errors are of other draws
                assert float(row[key]) == pytest.approx(float(tables[1][name][key]), abs=1e-5)
