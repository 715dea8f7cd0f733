"""The README is true."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_quick_start_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert names["more"].shape == (8, 5, 20, 3)  # type: ignore[attr-defined]


def test_every_file_it_points_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text())
    assert len(links) > 5
    for link in links:
        assert (README.parent / link).exists(), link
