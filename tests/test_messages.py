"""A message on a mistake names the path of the option, what was meant, and what is valid."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from toy import refused

from rnade_lightning.messages import cause, explain, one_line, said_of

DATA = ("fit", "--data=ArrayDataModule", "--data.root=x")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("--model.cel=gru", "--model.cell"),
        ("--data.windw=3", "--data.window"),
        ("--trainer.max_epoks=3", "--trainer.max_epochs"),
        ("--optimizer.lrr=3", "--optimizer.lr"),
        ("--modle.n_hidden=3", "--model.n_hidden"),
    ],
)
def test_an_unknown_option_is_named_by_its_path_with_a_near_match(
    typed: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, *DATA, typed)
    assert line.startswith(
        f"error: {typed.partition('=')[0]}: no such option; did you mean {meant}?"
    )


@pytest.mark.slow
def test_an_unknown_option_of_a_file_is_named_by_its_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("model: {class_path: RNNRNADEModule, init_args: {cel: gru}}\n")
    line = refused(capsys, *DATA, f"--config={config}")
    assert f"--model.cel in {config}: no such option; did you mean --model.cell?" in line


@pytest.mark.slow
def test_a_wrong_value_in_a_file_is_named_with_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("trainer: {max_epochs: many}\n")
    line = refused(capsys, *DATA, f"--config={config}")
    assert line.startswith(f"error: --trainer.max_epochs in {config}: ")
    right = tmp_path / "right.yaml"
    right.write_text("trainer: {max_epochs: 3}\n")
    line = refused(capsys, *DATA, f"--config={right}", f"--config={config}")
    assert f"--trainer.max_epochs in {right} or {config}: " in line
    line = refused(capsys, *DATA, f"--config={right}", "--trainer.max_epochs=many")
    assert "--trainer.max_epochs: " in line


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "no options"), ("- a\n- b\n", "no options"), ("a: [1\nb: }", "is no YAML")],
)
def test_a_file_without_options_is_named(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    line = refused(capsys, *DATA, f"--config={config}")
    assert f"--config {config}: " in line
    assert why in line


def test_a_word_that_is_no_option_is_not_told_as_one(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "score", "walk.bvh", "--ckpt_path=x")
    assert line.startswith("error: walk.bvh: no such option, and a value stands behind its own")


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        (("gradcheck", "--n_frames=0"), "n_frames must be at least 1, got 0"),
        (("sample", "--n_frames=-3"), "--n_frames -3: give a length of 0 frames or more"),
        (("sample", "--seconds=0"), "n_frames must be at least 1, got 0"),
        (("sample", "--n_samples=0"), "n_samples must be at least 1, got 0"),
        (("sample", "--n_prefix=5"), "--n_prefix and --prefix_seconds tell how much of the file"),
        (("sample", f"--seed={10**20}"), "seed must be at least"),
        (("sample", "--ckpt_path="), "--ckpt_path is empty: give a path, or leave it out"),
        (("sample", "--control="), "--control is empty"),
        (("sample", "--device=meta"), "--device meta: torch cannot use it here"),
        (("sample", "--device=nothing"), "--device nothing: torch cannot use it here"),
        (("sample", f"--out={__file__}"), "is no folder; give one, or a name that is free"),
        (("export", "--ckpt_path=a", f"--out={__file__}"), "is no folder"),
    ],
)
def test_a_number_that_asks_for_nothing_is_refused(
    typed: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert why in refused(capsys, *typed)


def test_an_option_without_a_near_match_has_no_guess() -> None:
    said = explain("unrecognized arguments: --qqqq=3", lambda: {"seed": 0}, ["--qqqq=3"])
    assert said == "--qqqq: no such option"


@pytest.mark.parametrize(
    ("typed", "valid"),
    [
        ("--data=ArayDataModule", ("AudioDataModule", "BallsDataModule", "mean ArrayDataModule?")),
        ("--model=RNNRNADEModul", ("RNNDensityModule", "mean RNNRNADEModule?")),
        ("--trainer.callbacks+=Sampels", ("Likelihood", "mean Samples?")),
        ("--data.split=foo", ("--data.split", "'tail'", "'file'", "foo")),
    ],
)
@pytest.mark.slow
def test_an_unknown_class_or_choice_lists_the_valid_ones(
    typed: str, valid: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, *DATA, typed)
    assert all(word in line for word in valid), line


def test_an_unknown_command_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "fitt")
    assert "did you mean fit?" in line
    for command in ("prepare", "predict", "sample", "score", "combine", "gradcheck"):
        assert command in line


@pytest.mark.parametrize("command", ["fit", "prepare"])
@pytest.mark.slow
def test_a_data_error_reads_as_itself(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    cpu = ("--data=ArrayDataModule", "--data.root=nowhere", "--trainer.accelerator=cpu")
    assert refused(capsys, command, *cpu).startswith("error: nowhere: ")


def test_only_what_wraps_an_error_is_taken_off() -> None:
    own = ValueError("outer")
    own.__cause__ = KeyError("inner")
    assert cause(own) is own


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENOENT, errno.EEXIST])
def test_what_the_system_refused_is_told_with_a_remedy(number: int) -> None:
    said = said_of(OSError(number, os.strerror(number), "there"))
    assert said.startswith(f"there: {os.strerror(number)}: ")
    assert said_of(OSError("no number")) == "no number"


def test_what_a_value_could_be_is_left_out_where_it_is_known_what_is_wrong() -> None:
    said = one_line("final must be below 1\nNot a valid subclass of Callback\nSubclass types ..")
    assert said == "final must be below 1"


def test_a_message_of_many_lines_is_one() -> None:
    assert one_line("a\n  b\n\nc") == "a b c"
