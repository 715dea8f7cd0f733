"""Make sound files small without loss, and get them back: ``compress`` and ``decompress``."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from rnade_lightning.coding import channels
from rnade_lightning.coding.channels import Integers, Signal
from rnade_lightning.coding.container import BLOCK, EXTENSION, REMEDIES, Codec, Stream, write
from rnade_lightning.datamodules import DataError
from rnade_lightning.datamodules.core.files import find_files, name_of
from rnade_lightning.datamodules.core.store import whole_file
from rnade_lightning.messages import one_line

HEADINGS = ("file", "samples", "bits per sample", "ratio", "seconds", "took (s)")


class Source(NamedTuple):
    """A file to read, and the file that it becomes."""

    path: Path
    target: Path


class Done(NamedTuple):
    """A file that was coded or decoded.

    Attributes:
        path: The file.
        signal: What it holds.
        n_bytes: Size of the stream.
        took: Seconds of work.
    """

    path: Path
    signal: Signal
    n_bytes: int
    took: float


def compress(files: list[str] | str, out: str, ckpt_path: str | None = None) -> None:
    """Make sound files small without loss: every sample comes back as it was, by ``decompress``.

    ``compress a.wav b.flac --out packed`` writes ``packed/a.wav.rnade`` and
    ``packed/b.flac.rnade``. WAV and FLAC of 8, 16 or 24 bits are taken, of any rate and number of
    channels. Titles and other tags are not kept; of a header that is unusual, a line says what is
    lost. A stream of the same sound that is there already is replaced, no other file is. At the end
    comes a table: bits per sample, and the size divided by that of the samples as they are.

    Args:
        files: files, folders (with their sub-folders) or globs; words without an option are these.
        out: folder to write to.
        ckpt_path: checkpoint of the model to code with, which ``decompress`` needs too; if not
            given, the model that comes with this package.
    """
    _run(_compress, "compress", files, channels.EXTENSIONS, out, load_codec(ckpt_path))


def decompress(files: list[str] | str, out: str, ckpt_path: str | None = None) -> None:
    """Get back the sound files that ``compress`` made small, sample by sample.

    ``decompress packed --out sounds`` writes the files under their names, WAV as WAV and FLAC as
    FLAC. Of a stream that is cut or damaged, what comes before that place is written, with a line
    that says how much was lost and exit status 1. A file that is there already is never replaced;
    where it holds the same sound, it stays as it is.

    Args:
        files: streams, folders (with their sub-folders) or globs; words without an option are
            these.
        out: folder to write to.
        ckpt_path: checkpoint of the model that the streams were made with; if not given, the model
            that comes with this package.
    """
    _run(_decompress, "decompress", files, (EXTENSION,), out, load_codec(ckpt_path))


def load_codec(ckpt_path: str | None) -> Codec:
    """Return the way to code of a model.

    Args:
        ckpt_path: Checkpoint; None for the model that comes with this package.
    """
    from rnade_lightning.coding.coder import Coder, load  # compiled code, which takes its time

    model = load(ckpt_path)
    return Codec(functools.partial(Coder, model), model.digest)


def _run(
    code: Callable[[Source, Codec], Done],
    verb: str,
    files: list[str] | str,
    extensions: Sequence[str],
    out: str,
    codec: Codec,
) -> None:
    """Code or decode every file; tell of each that fails, and end with a table of the others."""
    if Path(out).exists() and not Path(out).is_dir():
        raise ValueError(f"--out {out}: is a file: give a folder")
    done, n_failed = [], 0
    for source in _sources([files] if isinstance(files, str) else files, extensions, Path(out)):
        try:
            if isinstance(source, Exception):
                raise source
            done.append(code(source, codec))
        except (ValueError, OSError) as error:
            n_failed += 1
            print(f"error: {one_line(str(error))}", file=sys.stderr, flush=True)
    if done:
        print(table(done))
    if n_failed:
        if done:
            print(f"{verb}: {n_failed} of {n_failed + len(done)} failed", file=sys.stderr)
        sys.exit(1)


def _sources(
    roots: Iterable[str], extensions: Sequence[str], out: Path
) -> Iterator[Source | Exception]:
    """Yield every file below the roots once, or why a root or a file cannot be taken."""
    targets: dict[Path, Path] = {}
    for root in roots:
        try:
            found = find_files(root, extensions)
        except (DataError, OSError) as error:
            yield error
            continue
        for path in found:
            name = name_of(path, root, ())
            target = out / (name.removesuffix(EXTENSION) if EXTENSION in extensions else
                            f"{name}{EXTENSION}")  # fmt: skip
            first = targets.setdefault(target, path)
            if first is path:
                yield Source(path, target)
            elif first.resolve() != path.resolve():
                yield DataError(
                    f"{path}: would be written to {target}, as {first} is: give the folder above"
                    " both, or another --out"
                )


def _compress(source: Source, codec: Codec) -> Done:
    """Code one file."""
    started, (path, target) = time.monotonic(), source
    signal = channels.measure(path)
    _check_target(target, signal, _signal_of_stream)
    if lost := channels.not_kept(path, signal):
        print(f"{path}: its samples are kept, but not {lost}", file=sys.stderr)
    with whole_file(target) as part, part.open("wb") as file:
        blocks = channels.read(path, signal, BLOCK)
        write(file, signal, _shown(blocks, signal, "compress", path), codec)
    return Done(path, signal, target.stat().st_size, time.monotonic() - started)


def _decompress(source: Source, codec: Codec) -> Done:
    """Decode one file."""
    started, (path, target) = time.monotonic(), source
    with path.open("rb") as file:
        stream = Stream(file, path)
        signal, n_bytes = stream.signal, path.stat().st_size
        ending = ".flac" if signal.container == "FLAC" else ".wav"
        if not target.name.lower().endswith(ending):  # the stream was given another name
            target = target.with_name(target.name + ending)
        if stream.fault and not stream.n_good:
            raise _lost(stream, path)
        there = _check_target(target, signal, channels.measure)
        if there and stream.fault:
            raise DataError(
                f"{path}: {stream.fault}: {target} holds the whole of its sound already: compress"
                " that again"
            )
        if there:
            return Done(path, signal, n_bytes, time.monotonic() - started)
        with whole_file(target) as part:
            with channels.Writer(part, signal) as writer:
                for samples in _shown(stream.samples(codec), signal, "decompress", path):
                    writer.write(samples)
            if stream.fault and not stream.n_good:
                raise _lost(stream, path)
            if not stream.fault and writer.checksum.digest() != signal.checksum:
                raise DataError(
                    f"{path}: its samples are not those of its checksum, nothing is saved: get it"
                    " again, or decode it where it was made"
                )
        if stream.fault:
            raise _lost(stream, path, target)
    return Done(path, signal, n_bytes, time.monotonic() - started)


def _check_target(target: Path, signal: Signal, measure: Callable[[Path], Signal]) -> bool:
    """Return whether the file to write is there already, with the same sound.

    Raises:
        DataError: There is another one.
    """
    if not target.exists():
        return False
    try:
        same = measure(target) == signal
    except (DataError, OSError):
        same = False
    if not same:
        raise DataError(
            f"{target}: is there already and holds something else: move it, or set another --out"
        )
    return True


def _signal_of_stream(path: Path) -> Signal:
    with path.open("rb") as file:
        return Stream(file, path).signal


def _lost(stream: Stream, path: Path, target: Path | None = None) -> DataError:
    """Return what is to be said of a stream that is not whole."""
    rate, lost = stream.signal.rate, stream.signal.n_samples - stream.n_good
    saved = f"nothing of it is saved, {lost / rate:.2f} s are lost"
    if target:
        saved = f"{stream.n_good / rate:.2f} s are saved as {target}, {lost / rate:.2f} s are lost"
    return DataError(f"{path}: {stream.fault}: {saved}: {REMEDIES[str(stream.fault)]}")


def _shown(blocks: Iterable[Integers], signal: Signal, verb: str, path: Path) -> Iterator[Integers]:
    """Yield blocks, and show how far they are."""
    what, unit = f"{verb} {path.name}", "sample"
    with tqdm(desc=what, total=signal.n_samples, unit=unit, unit_scale=True, leave=False,
              disable=None) as bar:  # fmt: skip
        for block in blocks:
            yield block
            bar.update(len(block))


def table(done: Sequence[Done]) -> str:
    """Return what became of files, a line each, with their sum below if there are several.

    Bits per sample are those of the stream over the samples of all channels; the ratio is that of
    the stream to the samples without coding.
    """
    rows: list[tuple[str, ...]] = [HEADINGS, *(_row(str(d.path), [d]) for d in done)]
    if len(done) > 1:
        rows.append(_row("all", done))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(widths[0]), *cells]))
    return "\n".join(lines)


def _row(name: str, done: Sequence[Done]) -> tuple[str, ...]:
    """Return the cells of one file, or of several together."""
    n_bytes, raw = sum(d.n_bytes for d in done), sum(d.signal.n_bytes for d in done)
    n_values = sum(d.signal.n_samples * d.signal.n_channels for d in done)
    return (
        name,
        str(sum(d.signal.n_samples for d in done)),
        f"{8 * n_bytes / n_values:.3f}" if n_values else "-",
        f"{n_bytes / raw:.4f}" if raw else "-",
        f"{sum(d.signal.seconds for d in done):.2f}",
        f"{sum(d.took for d in done):.2f}",
    )
