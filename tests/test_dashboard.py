"""The sweep and the dashboard fit what runs log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from toy import (
    SMALL,
    write_toy_data,
)
from wandb_run import WandbRun

from rnade_lightning import dashboard
from rnade_lightning.__main__ import main

SWEEP = Path(__file__).parents[1] / "configs" / "sweep.yaml"


def commands() -> Iterator[list[str]]:
    """Return the commands of an agent at the ends of every parameter's range; W&B expands them."""
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


@pytest.mark.slow
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


@pytest.mark.slow
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
