"""The documentation holds together: links lead somewhere, code runs, words are plain."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))

RIDDLES = {"What", "Of", "Which", "Whether", "How", "Where", "Why", "Whose", "Nor"}
SOURCES = [path for top in ("rnade_lightning", "datamodules", "benchmarks", "tests", "docs")
           for path in sorted((ROOT / top).rglob("*.py"))]  # fmt: skip

every_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)


def links(text: str) -> list[str]:
    return re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", text)


def named(entries: list[object]) -> set[str]:
    """Return the pages that a list of the navigation names."""
    found = set()
    for entry in entries:
        value = next(iter(entry.values())) if isinstance(entry, dict) else entry
        found |= named(value) if isinstance(value, list) else {str(value)}
    return found


def riddles(source: str) -> list[str]:
    """Return the first lines of the docstrings that begin with one of `RIDDLES`."""
    kinds = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    docs = [ast.get_docstring(node) or "" for node in nodes]
    return [doc.splitlines()[0] for doc in docs if re.match(r"\w*", doc)[0] in RIDDLES]  # type: ignore[index]


@pytest.mark.slow
def test_docstrings_begin_with_a_verb_or_a_name() -> None:
    assert len(SOURCES) > 200
    assert not {path.name: found for path in SOURCES if (found := riddles(path.read_text()))}


@pytest.mark.parametrize("word", sorted(RIDDLES))
def test_a_riddle_is_found_wherever_it_stands(word: str) -> None:
    doc = f'"""{word} it holds."""'
    assert riddles(doc) == [f"{word} it holds."]
    assert riddles(f"class A:\n    {doc}") == [f"{word} it holds."]
    assert riddles(f"class A:\n    async def f():\n        {doc}") == [f"{word} it holds."]
    assert not riddles(f'def f():\n    """Return {word.lower()} it holds."""')


@every_page
def test_every_file_it_links_to_is_there(path: Path) -> None:
    for link in links(path.read_text()):
        assert (path.parent / link).exists(), link


def test_the_navigation_lists_every_page() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    there = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    of_root = {"index.md", "results.md"}  # README and RESULTS
    assert named(config["nav"]) - of_root == there


def test_the_code_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, object] = {"__name__": "guide"}
    for code in re.findall(r"```python\n(.*?)```", (ROOT / "docs/guide.md").read_text(), re.DOTALL):
        exec(code, names)
    assert len(names["frames"]) == 10  # type: ignore[arg-type]

    import numpy as np

    (tmp_path / "a.drums").write_text("\n".join("{} {} {}".format(*x) for x in np.eye(90, 3)))
    np.savetxt(tmp_path / "b.drums", np.random.default_rng(0).random((90, 3)))
    data = names["DrumDataModule"](str(tmp_path), window=8, cache_dir=str(tmp_path / "cache"))  # type: ignore[operator]
    assert data.n_features == 3
    (written,) = data.render(data.sequences("test")[1].frames, tmp_path / "again")
    assert np.allclose(np.loadtxt(written), np.loadtxt(tmp_path / "b.drums")[-18:], atol=1e-5)


@pytest.mark.slow
def test_the_picture_of_the_model_is_drawn_by_its_script(tmp_path: Path) -> None:
    drawn = tmp_path / "model.png"
    subprocess.run((sys.executable, ROOT / "docs" / "model.py", drawn), check=True)
    with Image.open(drawn) as now, Image.open(ROOT / "docs" / "model.png") as kept:
        assert now.size == pytest.approx(kept.size, rel=0.05)


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("mkdocs", "mkdocstrings", "material", "math_core"))),
    reason="the extra docs is not installed",
)
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path))
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "derivation" / "index.html").read_text()
    assert page.count("<math") > 100
    assert "arithmatex" not in page  # every formula was set
