"""Reading in processes that may be killed."""

import time
from pathlib import Path

import pytest
from counted_reads import ALL, LENGTHS, counted, prepare, reads


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [0, 1 << 40], ids=["processes", "alone"])
def test_killed_while_it_prepares_it_goes_on_where_it_stopped(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, parallel: int
) -> None:
    process = prepare(corpus, monkeypatch, parallel, 0.2)

    def done() -> dict[Path, int]:
        entries = (corpus.parent / "cache").glob("**/*.json")
        whole = [p for p in entries if p.name[0] != "." and p.name != "settings.json"]
        return {path: path.stat().st_mtime_ns for path in whole}

    deadline = time.monotonic() + 60
    while len(done()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.join()
    time.sleep(1.0)  # processes that read files notice
    before = done()
    assert 2 <= len(before) < len(LENGTHS)
    reads(corpus)
    data = counted(corpus)
    data.setup()
    assert len(reads(corpus)) == len(LENGTHS) - len(before)
    assert before.items() <= done().items()
    assert sum(data.describe()["frames"].values()) == sum(LENGTHS)


@pytest.mark.slow
def test_two_processes_at_once_read_each_file_once(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [prepare(corpus, monkeypatch, parallel, 0.05) for parallel in (0, 1 << 40)]
    for process in both:
        process.join(timeout=600)
    assert [process.exitcode for process in both] == [0, 0]
    assert reads(corpus) == ALL
    data = counted(corpus)
    data.setup()
    assert reads(corpus) == []
    left = [path.name for path in (corpus.parent / "cache").glob("**/*") if path.is_file()]
    assert not [name for name in left if name.startswith(".") or name.endswith(".lock")]
