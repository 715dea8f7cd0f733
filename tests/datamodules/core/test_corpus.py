"""Files are found, shared out to splits, or refused."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from counted_reads import counted
from damaged import refused, text
from toy import ToyDataModule, write_toy_data

from rnade_lightning.datamodules import ArrayDataModule, AudioDataModule, DataError
from rnade_lightning.datamodules.core.files import find_files
from rnade_lightning.datamodules.sound.speechlike import speechlike


def test_missing_empty_and_foreign_roots_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such file or folder: check")
    refused(tmp_path, r"holds no \.bvh or")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "not a kind of file that can be read here: give a .bvh")
    refused(tmp_path / "*.bvh", "holds no")


def test_frames_that_are_kept_below_a_root_are_not_its_files(tmp_path: Path) -> None:
    for i in range(2):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).normal(size=(90, 3)))
        data = ArrayDataModule(str(tmp_path), window=16, cache_dir=str(tmp_path / "cache"))
        data.setup()
        assert data.describe()["n_files"] == i + 1
        assert len(data.score_inputs(tmp_path)) == i + 1
    assert list((tmp_path / "cache").rglob("*.npy"))


@pytest.mark.slow
def test_files_are_found_in_folders_and_globs_in_order(tmp_path: Path) -> None:
    for name in ("b.bvh", "a/c.BVH", "a/d.bvh.gz", "a/e.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_files(tmp_path, (".bvh", ".bvh.gz"))
    assert [path.name for path in found] == ["c.BVH", "d.bvh.gz", "b.bvh"]
    assert find_files(f"{tmp_path}/*/*.gz", (".bvh", ".bvh.gz")) == found[1:2]


def test_too_few_files_for_whole_file_splits(tmp_path: Path) -> None:
    (tmp_path / "a.bvh").write_text(text())
    refused(tmp_path, "1 files are too few.*split to tail", split="file")


def test_listed_files_are_where_the_list_puts_them(tmp_path: Path) -> None:
    root = write_toy_data(tmp_path, (40, 50, 60, 70))
    data = ToyDataModule(str(root), window=16, parts={"val": ["take2"], "test": ["take0"]})
    found = {part: [s.name for s in data.sequences(part)] for part in ("train", "val", "test")}  # type: ignore[arg-type]
    assert found == {"train": ["take1", "take3"], "val": ["take2"], "test": ["take0"]}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"val": ["take9"], "test": ["take0"]}, "the first is take9"),
        ({"val": ["take1"], "test": ["take1"]}, "take1 is listed twice"),
        ({"train": ["take1"]}, "'train' is none of val, test"),
        ({"val": ["take1"]}, "no file that can be used is left for test"),
    ],
)
def test_a_wrong_list_is_refused(parts: dict[str, list[str]], message: str, tmp_path: Path) -> None:
    root = write_toy_data(tmp_path)
    with pytest.raises(DataError, match=message):
        ToyDataModule(str(root), window=16, parts=parts).setup()


def test_no_group_is_in_two_splits(corpus: Path) -> None:
    for i, path in enumerate(sorted(corpus.iterdir())):
        for k in range(3):
            (corpus / f"s{i // 2}_{k}_{path.name}").write_bytes(path.read_bytes())
        path.unlink()
    data = counted(corpus, split="file", group=r"^(s\d)_", test_fraction=0.34, val_fraction=0.33)
    parts = [{s.name[:2] for s in data.sequences(part)} for part in ("train", "val", "test")]  # type: ignore[arg-type]
    assert sorted(group for part in parts for group in part) == ["s0", "s1", "s2"]
    assert sum(len(data.sequences(part)) for part in ("train", "val", "test")) == 36  # type: ignore[arg-type]
    mixed = counted(corpus, split="file", test_fraction=0.34, val_fraction=0.33)
    names = [{s.name[:2] for s in mixed.sequences(part)} for part in ("train", "test")]  # type: ignore[arg-type]
    assert names[0] & names[1]  # what grouping prevents
    with pytest.raises(DataError, match=r"finds nothing in the file's name"):
        counted(corpus, split="file", group="speaker").setup()
    with pytest.raises(DataError, match="3 groups of files are too few"):
        counted(corpus, split="file", group=r"^s\d", test_fraction=0.5, val_fraction=0.4).setup()
    for wrong in ({"group": "(", "split": "file"}, {"group": "s"}):
        with pytest.raises(DataError, match="group"):
            counted(corpus, **wrong)


def test_all_bad_files_are_listed_at_once(corpus: Path) -> None:
    (corpus / "1.txt").write_text("no numbers")
    (corpus / "4.txt").write_text("1 2 3\n" * 60 + "1 nan 3\n")
    (corpus / "5.txt").write_text("1 2\n" * 80)
    (corpus / "6.txt").write_text("1 2 3\n" * 4)
    with pytest.raises(DataError) as caught:
        counted(corpus).setup()
    first, *lines = str(caught.value).split("\n")
    assert first == f"{corpus}: 3 of 7 files cannot be used (on_error: skip leaves them out):"
    expected = [
        "1.txt: not a table",
        "4.txt: frame 30, x1 is nan",
        "5.txt: does not fit",
    ]
    for line, start in zip(lines, expected, strict=True):
        assert line.strip().startswith(start)
    data = counted(corpus, on_error="skip")
    with pytest.warns(UserWarning, match=r"3 of 7 files are left out:\n  1\.txt: not a table"):
        data.setup()
    card = data.describe()
    assert list(card["left_out"]) == ["1.txt", "4.txt", "5.txt"]
    assert card["n_files"] == 4
    assert sum(card["frames"].values()) == 100 + 82 + 120 + 4
    for file in corpus.glob("[02356].txt"):
        file.unlink()
    with pytest.raises(DataError, match="files cannot be used"):
        counted(corpus, on_error="skip").setup()


def test_a_good_corpus_says_nothing(corpus: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = counted(corpus, on_error="skip")
        data.setup()
    assert data.describe()["left_out"] == {}


@pytest.mark.parametrize("odd", [0, 2, 4])
def test_of_files_that_do_not_fit_the_odd_one_is_named(odd: int, tmp_path: Path) -> None:
    """Wherever it stands in the order of names."""
    for i in range(5):
        rate = 8000 if i == odd else 16_000
        soundfile.write(tmp_path / f"part_{i}.wav", speechlike(i, 1.0), rate, subtype="PCM_16")
    options = {"frame_length": 20, "split": "tail", "window": 8}
    with pytest.raises(DataError, match=rf"part_{odd}\.wav: does not fit .*8000 .*, not 16000"):
        AudioDataModule(str(tmp_path), **options).setup()
    data = AudioDataModule(str(tmp_path), on_error="skip", **options)
    with pytest.warns(UserWarning, match="1 of 5 files are left out"):
        data.setup()
    assert data.layout["sample_rate"] == 16_000
    assert len(data.sequences("train")) == 4


@pytest.mark.parametrize("warmup", [0, 3, 9])
def test_every_frame_of_a_short_sequence_is_used_and_every_part_is_scored(
    tmp_path: Path, warmup: int
) -> None:
    lengths = (100, 1, 4, 9, 14, 30)
    root = write_toy_data(tmp_path, lengths)
    data = ToyDataModule(str(root), window=64, warmup=warmup)
    names = {s.name for s in data.sequences("train")}
    assert names == {f"take{i}" for i in range(len(lengths))}
    assert sum(data.describe()["frames"].values()) == sum(lengths)
    for part in ("val", "test"):
        assert all(len(s.frames) > warmup for s in data.sequences(part))  # type: ignore[arg-type]
    loader = data.train_dataloader()
    assert sum(int(batch["mask"].sum()) for batch in loader) >= sum(
        len(s.frames) for s in data.sequences("train")
    )


def test_whole_files_that_are_all_warm_up_are_left_out_of_what_is_scored_aloud(
    tmp_path: Path,
) -> None:
    root = write_toy_data(tmp_path, (40, 3, 50, 60, 2))
    parts = {"val": ["take1", "take2"], "test": ["take3"]}
    data = ToyDataModule(str(root), window=64, parts=parts)
    with pytest.warns(UserWarning, match="1 sequences are no longer than the warm-up of 3.*take1"):
        data.setup()
    assert data.describe()["sequences"] == {"train": 2, "val": 1, "test": 1}
    assert list(data.describe()["left_out"]) == ["take1"]
    data = ToyDataModule(str(root), window=64, parts={"val": ["take1"], "test": ["take3"]})
    with (
        pytest.warns(UserWarning, match="none of them is scored"),
        pytest.raises(DataError, match="no file that can be used is left for val"),
    ):
        data.setup()
