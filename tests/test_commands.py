"""The commands for a trained model, and what bad input gets: one line, no traceback."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from toy import (
    refused,
)

from rnade_lightning.__main__ import main


@pytest.mark.slow
def test_sample_writes_new_sequences(checkpoint: Path, tmp_path: Path) -> None:
    main(
        [
            "sample",
            f"--ckpt_path={checkpoint}",
            f"--out={tmp_path}",
            "--n_samples=2",
            "--n_frames=7",
        ]
    )
    assert [np.load(p).shape for p in sorted(tmp_path.glob("*.npy"))] == [(7, 3), (7, 3)]


def test_sample_continues_a_file(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    prefix = root / "take1.npy"
    main([
        "sample", f"--ckpt_path={checkpoint}", f"--out={tmp_path}", f"--prefix={prefix}",
        "--n_samples=1", "--n_prefix=20", "--n_frames=5",
    ])  # fmt: skip
    (found,) = tmp_path.glob("continuation_of_take1*.npy")
    assert np.load(found).shape == (25, 3)
    np.testing.assert_allclose(np.load(found)[:20], np.load(prefix)[:20], atol=1e-5)


def test_score_gives_every_frame(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    main(["score", f"--ckpt_path={checkpoint}", f"--files={root}", f"--out={out}"])
    with open(out) as file:
        rows = list(csv.DictReader(file))
    assert [r["file"] for r in rows] == ["take0"] * 90 + ["take1"] * 61 + ["take2"] * 47
    assert all(np.isfinite(float(r["log_prob"])) for r in rows)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--cell=tanh",), ("--cell=gru", "--n_components=1")])
def test_gradcheck_prints_every_parameter(
    extra: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["gradcheck", *extra])
    printed = capsys.readouterr().out
    for name in (
        "rnade.W",
        "rnade.c",
        "rnade.rho",
        "rnade.V_sigma",
        "rnade.b_alpha",
        "W_mu",
        "u_0",
    ):
        assert f"\n{name} " in printed


@pytest.mark.slow
def test_gradcheck_of_a_checkpoint(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["gradcheck", f"--ckpt_path={checkpoint}"])
    assert "rnade.V_mu" in capsys.readouterr().out


def test_a_file_cannot_name_itself_a_formula_in_the_table(
    checkpoint: Path, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "=1+1.npy").write_bytes(next(root.glob("*.npy")).read_bytes())
    out = tmp_path / "scores.csv"
    main(["score", f"--ckpt_path={checkpoint}", f"--files={tmp_path}", f"--out={out}"])
    names = {line.split(",")[0] for line in out.read_text().splitlines()[1:]}
    assert names == {"'=1+1"}


@pytest.mark.parametrize("command", ["sample", "score", "gradcheck"])
def test_help_of_a_command_names_its_options(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert "--ckpt_path" in capsys.readouterr().out


def test_too_short_a_prefix_is_named(
    checkpoint: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(
        capsys, "sample", f"--ckpt_path={checkpoint}", f"--prefix={root / 'take2.npy'}",
        "--n_prefix=1000", f"--out={tmp_path}",
    )  # fmt: skip
    assert "take2.npy has 47 frames" in line


def test_lengths_are_told_in_seconds(
    checkpoint: Path,
    root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Data of ten frames a second."""
    common = ["sample", f"--ckpt_path={checkpoint}", f"--out={tmp_path}", "--n_samples=1"]
    take = f"--prefix={root / 'take1.npy'}"
    main([*common, "--seconds=0.7"])
    main([*common, "--seconds=0.5", take, "--prefix_seconds=0.3"])
    (new,), (more,) = (tmp_path.glob(f"{name}*.npy") for name in ("sample", "continuation"))
    assert (len(np.load(new)), len(np.load(more))) == (7, 8)
    for options, match in (
        (["--seconds=2", "--n_frames=2"], "--n_frames and --seconds tell the same length"),
        (["--seconds=-1"], "--seconds -1: give a length of 0 seconds or more"),
        (["--prefix_seconds=999", take], "take1.npy has 61 frames (6.1 s)"),
    ):
        assert match in refused(capsys, *common, *options)


def test_score_leaves_out_a_warm_up(checkpoint: Path, root: Path, tmp_path: Path) -> None:
    found = []
    for warmup in (0, 0.5):
        out = tmp_path / f"{warmup}.csv"
        options = [f"--ckpt_path={checkpoint}", f"--files={root}", f"--out={out}"]
        main(["score", *options, f"--warmup_seconds={warmup}"])
        with open(out) as file:
            found.append(list(csv.DictReader(file)))
    assert found[1] == [row for row in found[0] if int(row["frame"]) >= 5]
    assert [row["seconds"] for row in found[0][:3]] == ["0.0", "0.1", "0.2"]
    assert "bits_per_sample" not in found[0][0]
