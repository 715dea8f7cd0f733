"""Arrows of the house: who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = [  # each file may import from those before it only
    {"rnade_lightning/gradients.py", "rnade_lightning/density.py", "rnade_lightning/baselines.py"}
    | {"rnade_lightning/components.py"},
    {"rnade_lightning/rnade.py"},
    {"rnade_lightning/sequence_model.py"},
    {"rnade_lightning/rnn_rnade.py", "rnade_lightning/densities.py"},
    {"rnade_lightning/lightning_module.py", "rnade_lightning/callbacks/gradient_check.py"},
    {"rnade_lightning/commands.py"},
    {"rnade_lightning/__main__.py"},
]


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def files_of(modules: set[str]) -> set[str]:
    candidates = {module.replace(".", "/") + ".py" for module in modules}
    return {name for name in candidates if (ROOT / name).is_file()}


@pytest.mark.parametrize("path", sorted(ROOT.glob("datamodules/**/*.py")), ids=lambda p: p.stem)
def test_data_modules_never_import_the_model(path: Path) -> None:
    assert not {m for m in imported(path) if m.split(".")[0] == "rnade_lightning"}


def test_arrows_never_turn() -> None:
    allowed: set[str] = set()
    for level in ORDER:
        for name in level:
            later = set().union(*ORDER) - allowed - {name}
            assert not files_of(imported(ROOT / name)) & later, name
        allowed |= level


@pytest.mark.parametrize(
    "name",
    ["gradients", "density", "components", "rnade", "sequence_model", "rnn_rnade", "baselines"],
)
def test_the_model_needs_torch_only(name: str) -> None:
    tops = {m.split(".")[0] for m in imported(ROOT / f"rnade_lightning/{name}.py") if m}
    assert tops <= sys.stdlib_module_names | {"torch", "rnade_lightning"}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("rnade_lightning/callbacks/*.py")), ids=lambda p: p.stem
)
def test_callbacks_reach_model_and_data_through_the_trainer(path: Path) -> None:
    modules = imported(path)
    assert not {m for m in modules if m.split(".")[0] == "datamodules"}
    assert "rnade_lightning.lightning_module" not in modules


def test_a_turned_arrow_is_seen(tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text("from rnade_lightning import commands\n")
    assert files_of(imported(planted)) & {"rnade_lightning/commands.py"}
