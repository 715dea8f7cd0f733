"""Samples are steered by labels and controls; a model given labels tells them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import refused

from rnade_lightning.__main__ import main
from rnade_lightning.datamodules.core import DataError
from rnade_lightning.datamodules.motion.bvh import read_bvh
from rnade_lightning.lightning_module import SequenceModule
from rnade_lightning.steering import chosen, posterior, summary_of

CLASSES = {"action": ["run", "walk"], "who": ["x", "y"], "with": ["x", "z"]}


def test_classes_are_named_alone_or_with_their_label() -> None:
    assert chosen(CLASSES, ["run", "who=x"]) == {"action": "run", "who": "x"}
    for word, said in (
        ("hop", "no class; the labels are action: run, walk; who: x, y; with: x, z"),
        ("x", "a class of several labels, write LABEL=CLASS"),
        ("style=x", "'style' is none of action, who, with"),
        ("action=x", "'x' is none of run, walk"),
    ):
        with pytest.raises(DataError, match=said):
            chosen(CLASSES, [word])


def test_two_classes_of_one_label_are_refused() -> None:
    with pytest.raises(ValueError, match="action is walk already; give it one class"):
        chosen({"action": ["walk", "run"]}, ["walk", "action=run"])


def test_the_posterior_is_that_of_bayes_and_the_mixture_a_density() -> None:
    log_p = torch.randn(3, 7, generator=torch.Generator().manual_seed(0)).double()
    after, mixed = posterior(log_p)
    joint = log_p.exp().cumprod(1) / 3
    torch.testing.assert_close(after, joint / joint.sum(0))
    torch.testing.assert_close(mixed.cumsum(0).exp(), joint.sum(0))


def test_the_summary_counts_the_files_that_are_known() -> None:
    found = [("a", "run", "run", 0.9), ("b", "walk", "run", 0.6), ("c", None, "run", 1.0)]
    assert summary_of("action", found).splitlines()[-1] == (
        "1 of 2 files with a known action are right"
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Train on sequences whose mean depends on their label and on a column that is given."""
    folder, rng = tmp_path_factory.mktemp("steered"), np.random.default_rng(0)
    for i in range(12):
        kind, turn = "ab"[i % 2], rng.normal(size=(60, 1))
        x = 0.1 * rng.normal(size=(60, 2)) + turn + (1.0 if kind == "a" else -1.0)
        rows = np.hstack([x, turn])
        np.savetxt(folder / f"{kind}{i}.csv", rows, "%.6f", ",", header="x,y,turn", comments="")
    main([
        "fit", "--data", "ArrayDataModule", f"--data.root={folder}", "--data.fps=10",
        r"--data.labels=/(?P<kind>[ab])\d", "--data.control=[turn]", "--data.split=file",
        "--data.window=16", "--model.n_hidden=4", "--model.n_recurrent=4", "--model.n_components=1",
        "--trainer.max_epochs=30", "--trainer.logger=CSVLogger",
        f"--trainer.logger.save_dir={folder}", "--optimizer.lr=0.02",
        "--trainer.callbacks+=LinearStart", "--model.context_dropout=0.2",
    ])  # fmt: skip
    (checkpoint,) = folder.rglob("best.ckpt")
    return folder, checkpoint


@pytest.mark.slow
def test_samples_follow_their_label_and_control(trained: tuple[Path, Path], tmp_path: Path) -> None:
    folder, checkpoint = trained
    control = tmp_path / "control.csv"
    t = np.arange(40) / 10
    turn = np.sin(t)
    np.savetxt(control, np.column_stack([t, turn]), "%.6f", ",", header="seconds,turn", comments="")
    out = tmp_path / "out"
    how = ["sample", f"--ckpt_path={checkpoint}", f"--control={control}", f"--out={out}"]
    main([*how, "--label=b", "--n_samples=2"])
    main([*how, "--n_samples=2", f"--prefix={folder}/a0.csv", "--n_prefix=10"])
    found = {path.stem: next(iter(np.load(path).values())) for path in out.glob("*.npz")}
    assert set(found) == {"sample_0_b", "sample_1_b", "continuation_of_a0_0_a",
                          "continuation_of_a0_1_a"}  # fmt: skip
    for name, frames in found.items():
        own, level = frames[-40:], -1.0 if name.endswith("b") else 1.0
        np.testing.assert_allclose(own[:, 2], turn, atol=1e-4)  # what is given is kept
        assert abs(own[:, :2] - own[:, 2:] - level).mean() < 0.4
    assert len(found["continuation_of_a0_0_a"]) == 50
    main([how[0], how[1], how[3], "--n_samples=1", f"--prefix={folder}/b1.csv", "--n_prefix=10"])
    rest = next(iter(np.load(out / "continuation_of_b1_0_b.npz").values()))  # along its own path
    own = np.loadtxt(folder / "b1.csv", delimiter=",", skiprows=1)
    np.testing.assert_allclose(rest[:, 2], own[:, 2], atol=1e-4)
    np.testing.assert_allclose(rest[:10], own[:10], atol=1e-4)


@pytest.mark.slow
def test_a_model_given_labels_tells_them(
    trained: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, checkpoint = trained
    out = tmp_path / "scores.csv"
    files = ["score", f"--ckpt_path={checkpoint}", f"--files={folder}/??.csv", f"--out={out}"]
    main([*files, "--label=all"])
    assert "10 of 10 files with a known kind are right" in capsys.readouterr().err
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == 10 * 60
    for row in rows[:60]:
        assert float(row["posterior_a"]) + float(row["posterior_b"]) == pytest.approx(1)
    first = rows[0]
    mixed = np.logaddexp(float(first["log_prob_a"]), float(first["log_prob_b"])) - np.log(2)
    assert float(first["log_prob"]) == pytest.approx(mixed, abs=1e-4)
    folder = tmp_path / "kept"
    SequenceModule.load_from_checkpoint(checkpoint).save_pretrained(folder)
    for kept in (checkpoint, folder):  # with its own label
        main([files[0], f"--ckpt_path={kept}", *files[2:]])
        own = float(next(csv.DictReader(out.open()))["log_prob"])
        assert own == pytest.approx(float(first["log_prob_a"]), abs=1e-4)


@pytest.mark.slow
def test_mistakes_are_told_in_one_line(
    trained: tuple[Path, Path],
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    free, (folder, checkpoint) = checkpoint, trained
    short = tmp_path / "short.csv"
    short.write_text("turn\n0.5\n0.5\n")
    at = ["sample", f"--ckpt_path={checkpoint}", f"--out={tmp_path}"]
    for more, said in (
        ([], "the model is given turn: give --control"),
        ([f"--control={folder}/a0.csv", "--label=c"], "the labels are kind: a, b"),
        ([f"--control={short}", "--n_frames=5"], "controls 2 frames"),
        (["--control=none.csv"], "--control none.csv: no such file"),
        ([f"--prefix={folder}/a0.csv", "--n_prefix=999"], "fewer than the 999 of the prefix"),
        ([f"--prefix={folder}/a0.csv", "--n_prefix=60"], "goes on for 0 frames after the prefix"),
        ([f"--prefix={folder}/a0.csv", "--n_prefix=9", "--n_frames=60"], "goes on for 51 frames"),
    ):
        assert said in refused(capsys, *at, *more)
    told = refused(capsys, "score", f"--ckpt_path={checkpoint}", f"--files={folder}",
                   "--label=action")  # fmt: skip
    assert "the labels are kind" in told
    told = refused(capsys, "sample", f"--ckpt_path={free}", "--control=line", f"--out={tmp_path}")
    assert "leave --control out" in told
    assert "leave --label out" in refused(capsys, "sample", "--label=walk", f"--out={tmp_path}")


@pytest.mark.slow
def test_a_root_that_is_modelled_is_drawn_toward_a_path(tmp_path: Path) -> None:
    """Ask it of the shipped model, which was given no path."""
    table = tmp_path / "path.csv"
    table.write_text("seconds,x,z\n0,0,0\n1,1,25\n2,4,50\n3,9,74\n")
    main(["sample", "--n_samples=1", f"--control={table}", f"--out={tmp_path}"])
    main(["sample", "--n_samples=1", "--seconds=3", f"--out={tmp_path / 'free'}"])
    ends = []
    for folder in (tmp_path, tmp_path / "free"):
        motion = read_bvh(next(folder.glob("*.bvh")))
        assert len(motion.positions) in (90, 91)
        place = motion.positions[-1, ::2] - motion.positions[0, ::2]
        ends.append(np.linalg.norm(place - [9, 74]))
    assert ends[0] < 6 < ends[1]  # of a path of 75, in a body of 70
