"""Arrows of the house: who may import whom, and where the test of each file is."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "rnade_lightning"
LEVELS = [  # a file imports from its own level and those before it; a folder stands for its files
    [
        "class_paths.py",
        "contexts.py",
        "hyperparameters.py",
        "loaders.py",
        "messages.py",
        "ranks.py",
        "reader.py",
        "scans.py",
        "scoring.py",
        "signals.py",
    ],
    ["run_folders.py"],
    ["datamodules/core"],
    ["run_files.py"],
    ["datamodules/motion", "datamodules/sound", "datamodules/simulated"],
    ["datamodules/__init__.py"],
    ["pretrained.py"],
    ["checkpoint_files.py"],
    ["arguments.py", "gradients.py", "linear_path.py", "baselines.py", "components", "cells"],
    ["parameters.py"],
    ["density.py", "sequence_density.py"],
    ["kernels"],
    ["distribution.py", "rnade.py"],
    ["couplings.py", "frame_scales.py"],
    ["recurrent_model.py"],
    ["rnn_rnade.py", "rnn_experts.py"],
    ["ensemble.py", "densities.py", "long_samples.py"],
    ["guided_samples.py"],
    ["steering.py"],
    ["__init__.py", "configs"],
    ["stored_module.py"],
    ["lightning_module.py"],
    ["checkpoints.py"],
    ["export.py"],
    ["coding"],
    ["callbacks"],
    ["vocoder.py", "drawing.py"],
    ["commands.py", "dashboard.py", "starting.py", "front_page.py"],
    ["functions.py", "help_pages.py"],
    ["command_parser.py"],
    ["runs.py", "completion.py"],
    ["__main__.py"],
    ["console.py"],
]
MODEL = ["arguments.py", "parameters.py", "density.py", "gradients.py", "distribution.py"]
MODEL += ["sequence_density.py", "linear_path.py", "rnade.py", "recurrent_model.py", "rnn_rnade.py"]
MODEL += ["frame_scales.py", "couplings.py", "ensemble.py", "baselines.py"]
WINGS = ["datamodules/motion", "datamodules/sound", "datamodules/simulated"]
FILES = sorted(
    path.relative_to(ROOT / PACKAGE).as_posix()
    for top in ("", "datamodules", "configs")  # links, which a search does not follow
    for path in (ROOT / PACKAGE / top).rglob("*.py")
)
every_file = pytest.mark.parametrize("name", FILES)


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_files(path: Path) -> set[str]:
    """Return the files of the package that a file imports from."""
    stems = {m.replace(".", "/") for m in imported(path) if m.split(".")[0] == PACKAGE}
    stems = {stem.removeprefix(PACKAGE).removeprefix("/") for stem in stems}
    candidates = {f"{stem}.py" for stem in stems} | {f"{stem}/__init__.py" for stem in stems}
    candidates = {name.removeprefix("/") for name in candidates}
    return {name for name in candidates if (ROOT / PACKAGE / name).is_file()}


def level_of(name: str) -> int:
    """Return the level of a file: that of the longest entry that names it or a folder above it."""
    matches = [
        (len(entry), i)
        for i, entries in enumerate(LEVELS)
        for entry in entries
        if name == entry or name.startswith(f"{entry}/")
    ]
    assert matches, f"{name} stands on no level: add it to LEVELS"
    return max(matches)[1]


def wrong_arrows(name: str, path: Path) -> list[str]:
    """Return the files later in the order that a file imports from. A package's own front door
    counts only for files outside of it."""
    inside = name.rpartition("/")[0]
    doors = {f"{inside}/__init__.py", "datamodules/__init__.py" if "datamodules" in name else ""}
    return [
        other
        for other in sorted(own_files(path) - {name, "__init__.py"} - doors)
        if level_of(other) > level_of(name)
    ]


@every_file
def test_arrows_never_turn(name: str) -> None:
    assert not wrong_arrows(name, ROOT / PACKAGE / name)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("datamodules")])
def test_data_modules_never_import_the_model(name: str) -> None:
    others = {n for n in own_files(ROOT / PACKAGE / name) if not n.startswith("datamodules")}
    assert others <= {"__init__.py", "class_paths.py"}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(tuple(WINGS))])
def test_wings_do_not_know_each_other(name: str) -> None:
    (own,) = (wing for wing in WINGS if name.startswith(wing))
    others = tuple(wing for wing in WINGS if wing != own)
    assert not {n for n in own_files(ROOT / PACKAGE / name) if n.startswith(others)}


@pytest.mark.parametrize(
    "name", [n for n in FILES if n in MODEL or n.startswith(("components", "cells"))]
)
def test_the_model_needs_torch_only(name: str) -> None:
    tops = {m.split(".")[0] for m in imported(ROOT / PACKAGE / name) if m}
    assert tops <= sys.stdlib_module_names | {"torch", PACKAGE}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("callbacks")])
def test_callbacks_reach_model_and_data_through_the_trainer(name: str) -> None:
    assert "lightning_module.py" not in own_files(ROOT / PACKAGE / name)


def test_a_turned_arrow_is_seen(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("def late():\n    from rnade_lightning import commands\n")
    assert wrong_arrows("density.py", planted) == ["commands.py"]
    assert not wrong_arrows("__main__.py", planted)


@every_file
def test_no_file_holds_two_ideas(name: str) -> None:
    assert len((ROOT / PACKAGE / name).read_text().splitlines()) <= 400


WITHOUT_A_TEST = {"__init__", "problem", "recording"}  # doors, and types without a function
CONTRACTS = {"cells", "components", "kinds"}  # one test of all classes of the folder


@every_file
def test_each_file_has_its_test_by_name(name: str) -> None:
    path = Path(name)
    names = [path.stem.strip("_")] + [path.parent.name] * (path.parent.name in CONTRACTS)
    wanted = [f"tests/{path.parent}/test_{name}.py" for name in names]
    if path.stem not in WITHOUT_A_TEST:
        assert any((ROOT / name).is_file() for name in wanted), wanted
