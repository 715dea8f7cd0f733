"""Pictures of motion can be played."""

from pathlib import Path

import torch
from PIL import Image

from rnade_lightning.datamodules import MocapDataModule


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
