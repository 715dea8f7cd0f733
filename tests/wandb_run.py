"""A run with all loggers, and a small reader of W&B's offline run files: records in blocks, as in
LevelDB's log.

The file starts with 7 bytes; a record's pieces each have a header of 7 (checksum, length, type:
1 whole, 2 first, 3 middle, 4 last) and never cross a block of 32 KiB.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from toy import SMALL
from wandb.proto.wandb_internal_pb2 import Record

KINDS = ("truth", "continuation", "one_step", "free", "free_2")
"""Of sequences that are shown after ``test``."""
_BLOCK, _HEADER = 32768, 7


@dataclass
class WandbRun:
    """The content of one offline run.

    Attributes:
        folder: The run's own folder, in which media are.
        id: The run's id.
        history: A dict for every call of ``log``, in order.
        summary: The last value of each key.
        config: The run's config.
        artifacts: Names and types of what was logged as artifacts.
    """

    folder: Path
    id: str = ""
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    artifacts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def keys(self) -> set[str]:
        return set().union(*self.history)

    def values(self, key: str) -> list[Any]:
        return [row[key] for row in self.history if key in row]

    def steps(self, key: str) -> list[int]:
        """Return the trainer's steps at which a key was logged."""
        return [row["trainer/global_step"] for row in self.history if key in row]

    def media(self, key: str) -> list[Path]:
        """Return the files of the last value of a key."""
        value = self.values(key)[-1]
        files = value.get("videos") or value.get("audio") or [value]
        names = value.get("filenames") or [file["path"] for file in files]
        return [self.folder / "files" / name for name in names]

    def table(self, key: str) -> dict[str, Any]:
        (path,) = self.media(key)
        return json.loads(path.read_text())


def read_run(folder: Path) -> WandbRun:
    """Return the offline run in a folder ``wandb/offline-run-*``."""
    (path,) = folder.glob("run-*.wandb")
    run = WandbRun(folder)
    for record in _records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run.id = record.run.run_id
            run.config |= _items(record.run.config.update)
        elif kind == "config":
            run.config |= _items(record.config.update)
        elif kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "summary":
            run.summary |= _items(record.summary.update)
        elif kind == "artifact":
            run.artifacts.append((record.artifact.name, record.artifact.type))
    return run


def _items(items: Any) -> dict[str, Any]:
    """Return keys and values; a value in pieces, such as a table's, is put together."""
    found: dict[str, Any] = {}
    for item in items:
        *outer, key = item.nested_key or [item.key]
        into = found
        for name in outer:
            into = into.setdefault(name, {})
        into[key] = json.loads(item.value_json)
    return found


def _records(path: Path) -> Iterator[Record]:
    content = path.read_bytes()
    assert content[:4] == b":W&B"
    at, parts = _HEADER, b""
    while at + _HEADER <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER:  # too little for a header: zeros
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + _HEADER : at + _HEADER + length]
        at += _HEADER + length
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def loggers(folder: Path, **options: Any) -> str:
    """Return a configuration with all three loggers, as a file."""
    found = [
        {"class_path": "CSVLogger", "init_args": {"save_dir": str(folder), "name": "toy"}},
        {"class_path": "WandbLogger", "init_args": {"project": "toy", **options}},
        {"class_path": "TensorBoardLogger", "init_args": {"save_dir": str(folder), "name": "tb"}},
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "loggers.yaml"
    path.write_text(yaml.safe_dump({"trainer": {"logger": found}}))
    return f"--config={path}"


def arguments(folder: Path, *more: str, **options: Any) -> list[str]:
    data = (f"--data.root={folder.parent / 'data'}", "--data=toy.PlayedDataModule")
    often = ("--trainer.max_epochs=2", "--trainer.log_every_n_steps=1")
    return [loggers(folder, **options), *SMALL, *data, *often, *more]


def offline_runs(folder: Path) -> list[WandbRun]:
    return [read_run(path) for path in sorted(folder.glob("toy/*/wandb/offline-run-*"))]


def numbers(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the content of the CSV logger: steps and values by key."""
    with open(folder / "toy" / "version_0" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    keys = [key for key in rows[0] if key not in ("epoch", "step")]
    return {k: [(int(r["step"]), float(r[k])) for r in rows if r[k] != ""] for k in keys}
