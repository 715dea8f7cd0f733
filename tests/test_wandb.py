"""What a run leaves with W&B, read back from its offline file, and with TensorBoard."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from PIL import Image
from test_cli import refused
from test_training import SMALL, process
from toy import write_toy_data
from wandb_run import WandbRun, read_run

from rnade_lightning import dashboard
from rnade_lightning.__main__ import main

SWEEP = Path(__file__).parents[1] / "configs" / "sweep.yaml"
KINDS = ("truth", "continuation", "one_step", "free", "free_2")


def loggers(folder: Path, **options: Any) -> str:
    """A configuration with all three loggers, as a file."""
    found = [
        {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder), "name": "toy"}},
        {"class_path": "WandbLogger", "init_args": {"project": "toy", **options}},
        {"class_path": "TensorBoardLogger", "init_args": {"save_dir": str(folder), "name": "tb"}},
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "loggers.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"logger": found}}))
    return f"--config={path}"


def arguments(folder: Path, *more: str, **options: Any) -> list[str]:
    data = (f"--data.root={folder.parent / 'data'}", "--data=toy.PlayedDataModule")
    often = ("--trainer.max_epochs=2", "--trainer.log_every_n_steps=1")
    return [loggers(folder, **options), *SMALL, *data, *often, *more]


def offline_runs(folder: Path) -> list[WandbRun]:
    return [read_run(path) for path in sorted(folder.glob("toy/*/wandb/offline-run-*"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that made pictures in its first epoch too."""
    tmp = tmp_path_factory.mktemp("wandb")
    write_toy_data(tmp / "data")
    schedule = ("--trainer.callbacks+=Samples", "--trainer.callbacks.every_n_epochs=1")
    process("fit", *arguments(tmp / "runs", *schedule))
    return tmp / "runs"


@pytest.fixture(scope="module")
def run(folder: Path) -> WandbRun:
    (found,) = offline_runs(folder)
    return found


def numbers(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What the CSV logger holds: steps and values by key."""
    with open(folder / "toy" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    keys = [key for key in rows[0] if key not in ("epoch", "step")]
    return {k: [(int(r["step"]), float(r[k])) for r in rows if r[k] != ""] for k in keys}


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
        assert [[str(v) for v in row] for row in table["data"]] == rows
    checks = run.table("gradcheck/table")
    assert checks["columns"] == ["parameter", "norm", "algorithm", "difference"]
    assert "rnade.W" in [row[0] for row in checks["data"]]


def test_the_summary_holds_the_final_table(run: WandbRun) -> None:
    assert run.summary["comparison/table"]["_type"] == "table-file"
    assert run.summary["comparison/table"]["nrows"] == 3
    assert "comparison/VAR(3)/log_prob" in run.summary


def test_config_holds_options_data_code_and_environment(folder: Path, run: WandbRun) -> None:
    assert run.config["n_hidden"] == 4  # hyperparameters
    assert run.config["options"]["trainer"]["max_epochs"] == 2
    assert run.config["options"]["optimizer"]["class_path"] == "torch.optim.Adam"
    assert run.config["data"]["features"] == ["x0", "x1", "x2"]
    assert run.config["code"]["version"]
    assert set(run.config["code"]) == {"version", "commit"}
    assert "torch" in run.config["environment"]
    card = json.loads((folder / "toy" / "version_0" / "run.json").read_text())
    assert card["wandb_id"] == run.id
    assert card["data"] == run.config["data"]


def test_a_resumed_run_goes_on_in_the_same_wandb_run(
    folder: Path, run: WandbRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = folder / "toy" / "version_0" / "checkpoints" / "last.ckpt"
    runs = folder.parent / "resumed"
    more = (f"--ckpt_path={last}", "--trainer.max_epochs=3")
    monkeypatch.setenv("WANDB_DATA_DIR", str(folder.parent / "staging"))
    process("fit", *arguments(runs, *more, log_model=True))
    (resumed,) = offline_runs(runs)
    assert resumed.id == run.id
    assert min(resumed.steps("val/nll")) > max(run.steps("val/nll"))
    # and the checkpoint is an artifact on request
    assert (f"model-{run.id}", "model") in resumed.artifacts
    assert "model" not in [kind for _, kind in run.artifacts]


def test_a_test_is_a_run_of_its_own(folder: Path, run: WandbRun) -> None:
    best = folder / "toy" / "version_0" / "checkpoints" / "best.ckpt"
    process("test", *arguments(folder.parent / "tested", f"--ckpt_path={best}"))
    (tested,) = offline_runs(folder.parent / "tested")
    assert tested.id != run.id
    assert tested.config["code"] == run.config["code"]


def test_two_processes_are_one_run(folder: Path) -> None:
    runs = folder.parent / "two"
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.max_epochs=1")
    process("fit", *arguments(runs, *two))
    (found,) = offline_runs(runs)
    assert not list(folder.parent.glob("**/wandb/run-*"))
    assert len(found.values("val/nll")) == 1
    assert len(found.values("comparison/table")) == 1


def test_an_artifact_of_an_offline_logger_is_refused_in_a_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = arguments(folder.parent / "refused", log_model=True, offline=True)
    line = refused(capsys, "fit", *more)
    assert "leave offline out" in line
    assert len(line) < 250


# ------------------------------------------------------------------ sweep and dashboard


def commands() -> Iterator[list[str]]:
    """What an agent runs at the ends of every parameter's range; the expansion is W&B's."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

    sweep = yaml.safe_load(SWEEP.read_text())
    for end in (0, -1):
        values = {
            name: {"value": p["values"][end] if "values" in p else p["max" if end else "min"]}
            for name, p in sweep["parameters"].items()
        }
        expanded = create_sweep_command_args({"args": values})
        words = {"${env}": [], "${interpreter}": [], "${args}": expanded["args"]}
        yield [part for word in sweep["command"] for part in words.get(word, [word])]


def test_the_command_line_takes_what_a_sweep_gives(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_toy_data(tmp_path / "data")
    for module, package, *words in commands():
        assert (module, package) == ("-m", "rnade_lightning")
        capsys.readouterr()
        with pytest.raises(SystemExit, match="0"):
            main([*words, "--print_config"])
        config = yaml.safe_load(capsys.readouterr().out)
        for word in words:
            if word.startswith("--model."):
                name, value = word.removeprefix("--model.").split("=")
                assert str(config["model"]["init_args"][name]) == value
    more = [option for option in SMALL if not option.startswith("--model")]
    fast = ("--trainer.fast_dev_run=true", "--trainer.logger=false")
    main([*words, *more, f"--data.root={root}", *fast, f"--trainer.default_root_dir={tmp_path}"])


def test_a_sweep_looks_at_a_key_that_is_logged(run: WandbRun) -> None:
    assert yaml.safe_load(SWEEP.read_text())["metric"]["name"] in run.keys


def test_the_dashboard_shows_keys_that_are_logged(run: WandbRun) -> None:
    pytest.importorskip("wandb_workspaces")
    workspace = dashboard.build("someone")
    spec = json.dumps(workspace._to_model().model_dump(by_alias=True, exclude_none=True))
    assert "grad_norm/.*" in spec
    shown = set()
    for section in workspace.sections:
        for panel in section.panels:
            shown |= {str(key) for key in getattr(panel, "y", getattr(panel, "media_keys", []))}
    assert len(shown) > 15
    assert shown - run.keys == {"val/bits_per_sample"}  # of sound


# ------------------------------------------------------------------ TensorBoard


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
