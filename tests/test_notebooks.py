"""Every notebook runs from top to bottom, in any folder, and is committed with outputs that are
small and without errors.

``python tests/test_notebooks.py [NAME ..]`` runs notebooks and saves their outputs in place. Of a
slider it saves the still picture alone: a page that shows a saved notebook cannot run the slider.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
TIMEOUT = 300  # seconds a cell may take; a whole notebook stays under 120 on two idle cores
MISSING = [name for name in ("nbclient", "ipykernel") if not importlib.util.find_spec(name)]
SLIDERS = "application/vnd.jupyter.widget-view+json"
LIVE = ("with_sliders(", "drive(")
"""What shows sliders, with a still picture beside them."""

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
needs_a_kernel = pytest.mark.skipif(
    bool(MISSING), reason=f"{' and '.join(MISSING)} not installed: pip install -e '.[dev]'"
)


def executed(path: Path, folder: str | Path) -> Any:
    """Return the notebook with the outputs of a fresh kernel that works in ``folder``. An error in
    a cell is raised here."""
    import nbclient
    import nbformat

    env = {**os.environ, "IPYTHONDIR": str(folder), "OMP_NUM_THREADS": "1"}
    env.pop("MPLBACKEND", None)  # figures go into the notebook
    paths = [str(NOTEBOOKS[0].parent), env.get("PYTHONPATH", "")]  # looks.py lies there
    env["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    return client.execute(env=env)


def outputs(path: Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text())["cells"]
    return [output for cell in cells for output in cell.get("outputs", [])]


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.slow
@needs_a_kernel
@every_notebook
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    for cell in executed(path, tmp_path).cells:
        if any(word in cell.source for word in LIVE):  # a page that can run them takes the sliders
            kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
            assert {SLIDERS, "image/png"} <= kinds


@every_notebook
def test_committed_outputs_are_small_and_without_errors(path: Path) -> None:
    assert path.stat().st_size < 1_000_000
    assert outputs(path), "commit it with its outputs: python tests/test_notebooks.py"
    for output in outputs(path):
        assert output["output_type"] != "error", output.get("ename")
        assert output.get("name") != "stderr", output["text"]


@every_notebook
def test_sliders_have_a_still_picture(path: Path) -> None:
    for cell in json.loads(path.read_text())["cells"]:
        if any(word in "".join(cell["source"]) for word in LIVE):
            kinds = [kind for output in cell["outputs"] for kind in output.get("data", {})]
            assert "image/png" in kinds
            assert SLIDERS not in kinds


@every_notebook
def test_the_first_cells_are_about_the_model(path: Path) -> None:
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    install, settings, *_ = sources = ["".join(cell["source"]) for cell in cells]
    assert "%pip install" in install
    assert "://" not in install  # of the project at hand, from no address
    assert not any(words in settings for words in ("plt.subplots", "ax.", "Colormap", '"#'))
    assert not any(words in source for source in sources for words in ("rcParams", "ipywidgets"))


@needs_a_kernel
@pytest.mark.slow
def test_a_notebook_that_fails_is_seen(tmp_path: Path) -> None:
    import nbclient
    import nbformat

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("raise ValueError('no')")])
    nbformat.write(notebook, tmp_path / "planted.ipynb")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match=r"ValueError.*: no"):
        executed(tmp_path / "planted.ipynb", tmp_path)


if __name__ == "__main__":
    import nbformat

    for path in NOTEBOOKS:
        if len(sys.argv) > 1 and path.stem not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            notebook = executed(path, folder)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                for output in cell.outputs:
                    output.get("data", {}).pop(SLIDERS, None)
        notebook.metadata.pop("widgets", None)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
