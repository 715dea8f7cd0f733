"""The page of samples: it needs no other file, and what it embeds can be played."""

from __future__ import annotations

import base64
import io
import re
from html import unescape
from pathlib import Path

import pytest
import soundfile
from PIL import Image
from toy import (
    options,
    write_toy_data,
)

from rnade_lightning.__main__ import main


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tmp = tmp_path_factory.mktemp("gallery")
    data, kind = write_toy_data(tmp / "data"), "--data=toy.PlayedDataModule"
    main([
        "fit", *options(data, tmp / "runs", kind, "--trainer.max_epochs=2"),
        "--trainer.callbacks+=Samples", "--trainer.callbacks.every_n_epochs=1",
        "--trainer.callbacks.n_sequences=2",
    ])  # fmt: skip
    return tmp / "runs" / "toy" / "version_0" / "samples" / "index.html"


@pytest.mark.slow
def test_the_page_needs_no_other_file(page: Path) -> None:
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!data:)[^"']*\.(?!npy|gif|png|wav)""", text)
    assert not re.findall(r"https?://", text)
    assert "<link" not in text


@pytest.mark.slow
def test_what_the_page_embeds_decodes(page: Path) -> None:
    text = page.read_text()
    found: dict[str, list[bytes]] = {}
    for kind, content in re.findall(r'src="data:([a-z/]+);base64,([^"]+)"', text):
        found.setdefault(kind, []).append(base64.b64decode(content))
    assert len(found["audio/wav"]) >= 3 * 8  # two sequences threefold, two samples; three times
    for sound in found["audio/wav"]:
        assert soundfile.read(io.BytesIO(sound))[1] == 8000
    for picture in found["image/png"]:
        Image.open(io.BytesIO(picture)).verify()
    players = [unescape(player) for player in re.findall(r'srcdoc="([^"]*)"', text)]
    assert '<p>test_truth & "39 frames"</p>' not in players  # the longest is cut
    assert (page.parent / "test_truth.html").read_text() in players
    assert "image/gif" not in found  # where a player is, a GIF is a link
    for link in re.findall(r'<a href="([^"]+)"', text):
        assert (page.parent / link).is_file()


def test_the_page_shows_truth_beside_what_is_generated(page: Path) -> None:
    text = page.read_text()
    for said in (
        "Truth", "Continued", "One step ahead", "Sample 2", "take0, held out", "take1, held out",
        "VAR", "Likelihood", "nats a frame",
    ):  # fmt: skip
        assert said in text
    sets = [text.index(title) for title in ("Test data, weights of", "Epoch 2,", "Epoch 1,")]
    assert sets == sorted(sets)


def test_too_much_to_embed_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rnade_lightning.callbacks import gallery

    sound = tmp_path / "a.wav"
    sound.write_bytes(b"x" * 100)
    shown = gallery.SampleSet("s", {"g": [gallery.Shown("t", "n", [sound])]}, [])
    gallery.write_gallery(tmp_path / "index.html", "a & b", [], [shown], [])
    assert "data:audio/wav" in (tmp_path / "index.html").read_text()
    assert "<h1>a &amp; b</h1>" in (tmp_path / "index.html").read_text()
    monkeypatch.setattr(gallery, "MAX_BYTES", 99)
    gallery.write_gallery(tmp_path / "index.html", "a & b", [], [shown], [])
    text = (tmp_path / "index.html").read_text()
    assert "data:" not in text
    assert 'href="a.wav"' in text
