"""MP4 beside every GIF."""

from pathlib import Path

import numpy as np
import pytest
from films import decoded, needs_encoder
from PIL import Image

from rnade_lightning.datamodules import BallsDataModule, DataError, MocapDataModule
from rnade_lightning.datamodules.core import mp4


@needs_encoder
@pytest.mark.slow
def test_motion_is_played_as_the_gif_is(tmp_path: Path) -> None:
    data = MocapDataModule()
    written = data.render(data.sequences("train")[0].frames[:30], tmp_path / "walk.1")
    assert [path.name for path in written] == [f"walk.1.{k}" for k in ("bvh", "gif", "html", "mp4")]
    assert sorted(tmp_path.iterdir()) == sorted(written)  # nothing is left over
    frames, rate, said = decoded(written[3])
    assert (frames.shape, rate) == ((15, 460, 460, 3), 15)
    assert "h264" in said
    assert "yuv420p" in said
    content = written[3].read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")
    with Image.open(written[1]) as gif:
        for t, frame in enumerate(frames):
            gif.seek(t)
            expected = np.asarray(gif.convert("RGB")).astype(float)
            assert expected.std() > 10  # not blank
            assert np.abs(frame - expected).mean() < 3


@needs_encoder
@pytest.mark.slow
def test_sides_are_made_even(tmp_path: Path) -> None:
    data = BallsDataModule(n_train=2, n_val=1, n_test=1, n_frames=40, window=40)
    *_, film = data.render(data.sequences("test")[0].frames, tmp_path / "balls")
    frames, rate, _ = decoded(film)
    assert (frames.shape, rate) == ((40, 226, 226, 3), 30)
    assert np.ptp(frames[:, :225, :225]) > 200


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo 'no such encoder' >&2; exit 1", "no such encoder"),
        ("cat > /dev/null; exit 3", "status 3"),
        ("exit 0", "Broken pipe"),
    ],
)
def test_an_encoder_that_fails_is_named_and_leaves_nothing(
    script: str, reason: str, tmp_path: Path
) -> None:
    program, film = tmp_path / "ffmpeg", tmp_path / "out" / "a.mp4"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    images = [Image.new("RGB", (400, 400))] * 20
    with pytest.raises(DataError, match=rf"a\.mp4: ffmpeg could not write it \({reason}\)"):
        mp4.write_mp4(film, images, 15.0, str(program))
    assert list(film.parent.iterdir()) == []
    with pytest.raises(DataError, match="No such file"):
        mp4.write_mp4(film, images, 15.0, str(tmp_path / "nothing"))
