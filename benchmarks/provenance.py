"""Say what a run was made of: the commit, and the files of the project that it read.

    python -m benchmarks.provenance OUT COMMAND ..    the command line, then what it was made of

Conventions:
    A file has a digest: of its syntax tree without docstrings if it is Python, else of its text. So
    two runs of other commits are alike if their files differ in comments alone. Kinds of data do
    not read each other, though the command line imports them all: of those folders, the files of
    the kind that is used count.
"""

import ast
import hashlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as pl

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("RESULTS.md", "README.md")
WRITTEN = tuple(f":!{of}" for of in (*PAGES, "benchmarks/results", "benchmarks/told"))  # by runs
DATA = ROOT / "datamodules"
READ = (ROOT / "rnade_lightning", DATA, ROOT / "configs")


def git(*arguments: str) -> str:
    """Return what git says of this checkout."""
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def clean_commit() -> str:
    """Return the commit that is checked out.

    Raises:
        ValueError: files differ from it, or belong to none.
    """
    if changed := git("status", "--porcelain", "--", ".", *WRITTEN).splitlines():
        raise ValueError(
            f"{len(changed)} files differ from the commit, the first {changed[0].split()[-1]!r}: "
            "commit them first, or give --try, which stores nothing"
        )
    return git("rev-parse", "HEAD")


def check_unchanged(commit: str, files: Iterable[str]) -> None:
    """Refuse files that are no longer those of a commit.

    Raises:
        ValueError: at least one differs.
    """
    if changed := git("diff", "--name-only", commit, "--", *files).splitlines():
        raise ValueError(f"{changed[0]} changed while the run went on: run it again")


def digest(path: Path) -> str:
    """Return a digest of what a run reads of a file."""
    text = path.read_text()
    if path.suffix == ".py":
        tree = ast.parse(text)
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and _is_text(body[0]):
                body[0] = ast.Pass()
        text = ast.dump(tree)
    return hashlib.sha1(text.encode()).hexdigest()[:12]


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def files_read(arguments: Iterable[str], kind: Path) -> dict[str, str]:
    """Return the digests, by path, of the modules of the project that are loaded and of the configs
    that the command named.

    Args:
        arguments: of the command line.
        kind: folder of the kind of data that was used.

    Raises:
        ValueError: the project was loaded from another checkout.
    """
    loaded = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    named = [word.removeprefix("--config=") for word in arguments if word.startswith("--config=")]
    paths = {Path(p).resolve() for p in [*filter(None, loaded), *named, ROOT / "configs/base.yaml"]}
    others = [folder for folder in DATA.iterdir() if folder.name not in ("core", kind.name)]
    read = {
        str(path.relative_to(ROOT)): digest(path)
        for path in sorted(paths)
        if any(path.is_relative_to(folder) for folder in READ)
        and not any(path.is_relative_to(folder) for folder in others if folder.is_dir())
    }
    if "rnade_lightning/__main__.py" not in read:
        raise ValueError(f"the project was not loaded from {ROOT}: run the command there")
    return read


def differing(runs: Iterable[dict[str, str]]) -> dict[str, int]:
    """Return the files of which runs read several versions, with their number.

    >>> differing([{"a.py": "1", "b.py": "1"}, {"a.py": "2", "c.py": "1"}])
    {'a.py': 2}
    """
    versions: dict[str, set[str]] = {}
    for files in runs:
        for path, found in files.items():
            versions.setdefault(path, set()).add(found)
    return {path: len(found) for path, found in versions.items() if len(found) > 1}


class Clock(pl.Callback):
    """Keeps when each validation ended, ``(updates so far, seconds of the processor)``, and which
    kind of data was used."""

    ends: ClassVar[list[tuple[int, float]]] = []
    kind: ClassVar[Path]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        module = sys.modules[type(trainer.datamodule).__module__]  # type: ignore[attr-defined]
        Clock.kind = Path(str(module.__file__)).resolve().parent

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            Clock.ends.append((trainer.global_step, round(time.process_time(), 1)))


def main() -> None:
    from benchmarks.provenance import Clock  # not __main__'s, but that of the command line
    from rnade_lightning.__main__ import main as rnade_lightning

    out, *arguments = sys.argv[1:]
    rnade_lightning([*arguments, "--trainer.callbacks+=benchmarks.provenance.Clock"])
    made: dict[str, Any] = {
        "files": files_read(arguments, Clock.kind),
        "clock": Clock.ends,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    Path(out).write_text(json.dumps(made))


if __name__ == "__main__":
    main()
