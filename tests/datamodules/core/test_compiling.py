"""Compiled code is kept until its sources change, and the first time is announced."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from rnade_lightning.datamodules.core import compiling


def test_a_change_of_a_file_compiles_anew(tmp_path: Path) -> None:
    source = tmp_path / "callee.py"

    def stamp(text: str) -> str:
        source.write_text(text)
        done = compiling.kept([source])(lambda x: x)
        return str(done._cache._cache_file._source_stamp)

    assert stamp("a = 1") == stamp("a = 1") != stamp("a = 2")


def test_the_first_time_is_announced_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ours() -> None: ...

    def theirs() -> None: ...

    theirs.__module__ = "scipy"
    compiling.kept([__file__])(ours)
    monkeypatch.setattr(compiling._Announce, "said", False)
    listener = compiling._Announce()
    said = []
    for function in (theirs, ours, ours):
        listener.on_start(SimpleNamespace(data={"dispatcher": SimpleNamespace(py_func=function)}))
        said.append(capsys.readouterr().err.count("compiling for this processor, once"))
    assert said == [0, 1, 0]
