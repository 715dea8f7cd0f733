"""Loggers hold what they are given: W&B, read back from its offline file, and TensorBoard."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import soundfile
from PIL import Image
from wandb_run import KINDS, WandbRun, numbers

from rnade_lightning.callbacks.gradient_check import GradientRow


@pytest.mark.slow
def test_numbers_are_those_of_the_csv_at_the_same_steps(folder: Path, run: WandbRun) -> None:
    expected = numbers(folder)
    for key in ("train/nll", "val/nll", "val/ks", "val/nll_var", "val/n_degenerate", "test/nll",
                "grad_norm/total", "grad_norm/rnade.W", "grad_norm/clipped",
                "gradcheck/difference", "samples/free/log_prob",
                "comparison/RNNRNADE/log_prob"):  # fmt: skip
        assert expected[key], key
        assert run.steps(key) == [step for step, _ in expected[key]], key
        assert run.values(key) == pytest.approx([value for _, value in expected[key]], rel=1e-6)


def test_media_decode(run: WandbRun) -> None:
    for kind in KINDS:
        assert len(run.values(f"samples/{kind}/audio")) == 3  # two epochs and the test
        (sound,) = run.media(f"samples/{kind}/audio")
        assert soundfile.read(sound)[1] == 8000
        (video,) = run.media(f"samples/{kind}/video")
        with Image.open(video) as animation:
            assert animation.format == "GIF"
            assert animation.n_frames == 5  # type: ignore[attr-defined]
        (picture,) = run.media(f"samples/{kind}/image")
        with Image.open(picture) as image:
            assert image.format == "PNG"
        (page,) = run.media(f"samples/{kind}/html")
        assert page.read_text().startswith(f"<p>test_{kind} &")
    with Image.open(run.media("likelihood/image")[0]) as image:
        assert image.width > 1000


def test_tables_are_those_on_disk(folder: Path, run: WandbRun) -> None:
    for key, name in (("comparison/table", "comparison.csv"),
                      ("likelihood/by_feature", "likelihood/by_feature.csv")):  # fmt: skip
        with open(folder / "toy" / "version_0" / name) as file:
            columns, *rows = csv.reader(file)
        table = run.table(key)
        assert table["columns"] == columns
        assert [["" if v is None else str(v) for v in row] for row in table["data"]] == rows
    checks = run.table("gradcheck/table")
    assert checks["columns"] == [*GradientRow._fields]
    assert "rnade.W" in [row[0] for row in checks["data"]]


def test_the_summary_holds_the_final_table(run: WandbRun) -> None:
    assert run.summary["comparison/table"]["_type"] == "table-file"
    assert run.summary["comparison/table"]["nrows"] == 3
    assert "comparison/VAR/log_prob" in run.summary


def test_tensorboard_holds_numbers_pictures_sounds_and_tables(folder: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tb" / "version_0"), size_guidance={"scalars": 0})
    events.Reload()
    tags = events.Tags()
    expected = numbers(folder)
    assert set(expected) <= set(tags["scalars"])
    for key in ("val/ks", "val/nll_var", "grad_norm/rnade.W"):
        found = [(event.step, event.value) for event in events.Scalars(key)]
        assert [step for step, _ in found] == [step for step, _ in expected[key]]
        assert [v for _, v in found] == pytest.approx([v for _, v in expected[key]], rel=1e-5)
    for kind in KINDS:
        assert events.Audio(f"samples/{kind}/audio")[-1].encoded_audio_string[:4] == b"RIFF"
        assert events.Images(f"samples/{kind}/image")[-1].encoded_image_string[1:4] == b"PNG"
        assert events.Images(f"samples/{kind}/video")[-1].encoded_image_string[:3] == b"GIF"
    assert events.Images("likelihood/image")[-1].width > 1000
    assert {"comparison/table/text_summary", "gradcheck/table/text_summary"} <= set(tags["tensors"])
