"""Pictures of motion can be played."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rnade_lightning.datamodules import MocapDataModule
from rnade_lightning.datamodules.motion.animation import write_gif, write_html


@pytest.mark.slow
def test_rendered_files_can_be_played(shipped: MocapDataModule, tmp_path: Path) -> None:
    frames = shipped.sequences("test")[0].frames[:30]
    bvh, gif, html, *film = shipped.render(frames, tmp_path / "new folder" / "walk.1")
    assert [path.name for path in (bvh, gif, html)] == ["walk.1.bvh", "walk.1.gif", "walk.1.html"]
    again = shipped.score_input(bvh)
    torch.testing.assert_close(again.frames, frames[1:], atol=2e-3, rtol=0)
    with Image.open(gif) as image:
        assert (image.n_frames, image.info["duration"]) == (15, 70)  # type: ignore[attr-defined]
        assert gif.stat().st_size < 2e6 * 15 / 75
    page = html.read_text()
    assert "__" not in page.replace("__proto__", "")
    assert "http" not in page
    assert sorted(bvh.parent.iterdir()) == sorted([bvh, gif, html, *film])


def body(n_frames: int = 60) -> np.ndarray:
    """Return points of a figure 2 high that stands on a ground at 1, ``(T, P, 3)``."""
    points = np.random.default_rng(0).uniform(-0.3, 0.3, (8, 3))
    points[:, 1] = np.linspace(1, 3, 8)
    return np.tile(points, (n_frames, 1, 1))


LINES = [(i, i + 1, "spine") for i in range(7)]


def scene_of(path: Path) -> dict[str, np.ndarray]:
    found = re.search(r"const scene = (\{.*\});", path.read_text())
    assert found is not None
    scene = json.loads(found[1])
    return {key: np.array(scene[key]) for key in ("points", "camera", "colours")}


@pytest.mark.parametrize("lift", [0.0, 0.5, -0.4])
def test_the_ground_is_that_of_the_data(lift: float, tmp_path: Path) -> None:
    points = body() + np.array([0, lift, 0])
    write_html(tmp_path / "a.html", points, LINES, 30.0, ground=1.0)
    lowest = scene_of(tmp_path / "a.html")["points"].reshape(60, -1, 3)[..., 1].min()
    assert lowest == pytest.approx(lift / 2, abs=1e-3)
    write_html(tmp_path / "b.html", points, LINES, 30.0)
    assert scene_of(tmp_path / "b.html")["points"][:, 1].min() == pytest.approx(0, abs=1e-3)


DRIFTS = {
    "sinks": lambda s: [0 * s, -9 * s, 0 * s],
    "rises": lambda s: [0 * s, 40 * s, 0 * s],
    "runs": lambda s: [300 * s, 0 * s, 0 * s],
    "jumps": lambda s: [12.0 * (s > 0.5), 5.0 * (s > 0.3), 0 * s],
    "shakes": lambda s: [2 * np.sin(50 * s), np.sin(70 * s), 0 * s],
}


@pytest.mark.parametrize("drift", DRIFTS)
@pytest.mark.slow
def test_a_figure_that_drifts_is_kept_in_sight(drift: str, tmp_path: Path) -> None:
    way = np.stack(DRIFTS[drift](np.linspace(0, 1, 60)), axis=-1)
    points = body() + way[:, None]
    write_html(tmp_path / "a.html", points, LINES, 30.0, ground=1.0)
    scene = scene_of(tmp_path / "a.html")
    away = scene["points"].reshape(60, -1, 3) - scene["camera"][:, None]
    assert np.abs(away[..., 1]).max() < 0.72  # half of what a picture shows, in figure heights
    assert np.abs(away[..., ::2]).max() < 0.72
    write_gif(tmp_path / "a.gif", points, LINES, 30.0, ground=1.0)
    with Image.open(tmp_path / "a.gif") as image:
        for t in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(t)
            dark = np.asarray(image.convert("L")) < 110
            rows, columns = (np.flatnonzero(dark.any(axis=i)) for i in (1, 0))
            assert len(rows) > 150  # as tall as it stands
            assert rows[0] > 2
            assert rows[-1] < len(dark) - 3
            assert columns[0] > 2
            assert columns[-1] < len(dark) - 3


def test_the_camera_stands_at_the_ground_while_the_figure_does(tmp_path: Path) -> None:
    points = body()
    points[..., 0] += np.linspace(0, 3, 60)[:, None]
    write_html(tmp_path / "a.html", points, LINES, 30.0, ground=1.0)
    assert np.abs(scene_of(tmp_path / "a.html")["camera"][:, 1] - 0.5).max() < 1e-3


def test_lines_have_the_colour_of_their_side(tmp_path: Path) -> None:
    names = ["mixamorig:LeftArm", "mixamorig:RightArm", "hips"]
    lines = [(i, i + 1, name) for i, name in enumerate(names)]
    write_html(tmp_path / "a.html", body(), lines, 30.0)
    assert len(set(scene_of(tmp_path / "a.html")["colours"])) == 3


def test_the_wheel_and_a_swipe_scroll_the_page_around(tmp_path: Path) -> None:
    write_html(tmp_path / "a.html", body(), LINES, 30.0)
    page = (tmp_path / "a.html").read_text()
    assert "touch-action: pan-y" in page
    wheel = page[page.index('addEventListener("wheel"') :]
    assert wheel.index("if (!event.ctrlKey") < wheel.index("preventDefault")
