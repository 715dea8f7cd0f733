"""Write one page that shows generated sequences beside true ones; it needs no other file.

Files are embedded by their ending: ``.html`` as a player in a frame, ``.wav`` as sound, ``.png``
and ``.gif`` as pictures (a GIF only where there is no player); all others, such as ``.bvh``, are
links to the file beside the page.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

from rnade_lightning.datamodules.core.store import whole_file

MAX_BYTES = 16 * 2**20
"""What the page embeds at most; what goes beyond is linked, oldest first."""

_TYPES = {".wav": "audio/wav", ".png": "image/png", ".gif": "image/gif"}


class Shown(NamedTuple):
    """One sequence, in all the forms that its data module writes."""

    title: str
    note: str
    paths: list[Path]


class Table(NamedTuple):
    """Numbers with a heading."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class SampleSet(NamedTuple):
    """Sequences that were generated at one time, in groups to compare, with their metrics."""

    title: str
    groups: Mapping[str, list[Shown]]
    tables: list[Table]


def write_gallery(
    path: Path, title: str, facts: Sequence[str], sets: Sequence[SampleSet], pictures: list[Shown]
) -> None:
    """Write the page.

    Args:
        path: file to write; the files shown stand in its folder or below.
        title: title of the page.
        facts: what to know of the model, in a line.
        sets: the newest first; those after it are folded away.
        pictures: shown after the newest set.
    """
    page = _Page(path.parent)
    newest, *older = sets
    body = [
        f"<section>{page.heading(newest.title)}{page.samples(newest)}</section>",
        *(f"<section><h2>{escape(p.title)}</h2><p>{escape(p.note)}</p>"
          f"<figure>{page.media(p)}</figure></section>" for p in pictures),
        *(f"<details><summary>{escape(s.title)}</summary><section>{page.samples(s)}</section>"
          "</details>" for s in older),
    ]  # fmt: skip
    template = Template((Path(__file__).parent / "gallery.html").read_text(encoding="utf-8"))
    text = template.substitute(
        title=escape(title), facts=" &middot; ".join(map(escape, facts)), body="\n".join(body)
    )
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


class _Page:
    """Makes the pieces of the page, and counts how much they may still embed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.left = folder, MAX_BYTES

    def heading(self, title: str) -> str:
        return (
            f'<div class="row"><h2>{escape(title)}</h2><button hidden>Play together</button></div>'
        )

    def samples(self, shown: SampleSet) -> str:
        parts = []
        for title, items in shown.groups.items():
            figures = "\n".join(self.figure(item) for item in items)
            parts.append(f'<h3>{escape(title)}</h3>\n<div class="grid">\n{figures}\n</div>')
        tables = "".join(map(_table, shown.tables))
        return "\n".join([*parts, f'<div class="tables">{tables}</div>'])

    def figure(self, item: Shown) -> str:
        links = " ".join(
            f'<a href="{self.relative(path)}" download>{escape(path.suffix[1:])}</a>'
            for path in item.paths
            if path.suffix != ".html"
        )
        return (
            f"<figure>{self.media(item)}<figcaption><b>{escape(item.title)}</b>"
            f"<span>{escape(item.note)}</span>{links}</figcaption></figure>"
        )

    def media(self, item: Shown) -> str:
        kinds = {path.suffix for path in item.paths}
        return "".join(
            self.embedded(path, item.title)
            for path in item.paths
            if path.suffix == ".html"
            or (path.suffix in _TYPES and not (path.suffix == ".gif" and ".html" in kinds))
        )

    def embedded(self, path: Path, title: str) -> str:
        content = path.read_bytes()
        name, self.left = escape(title, quote=True), self.left - len(content)
        if self.left < 0:
            return f'<p><a href="{self.relative(path)}">{escape(path.name)}</a></p>'
        if path.suffix == ".html":
            page = escape(content.decode("utf-8"), quote=True)
            return f'<iframe title="{name}" sandbox="allow-scripts" srcdoc="{page}"></iframe>'
        source = f"data:{_TYPES[path.suffix]};base64,{base64.b64encode(content).decode('ascii')}"
        if path.suffix == ".wav":
            return f'<audio controls aria-label="{name}" src="{source}"></audio>'
        kind = ' class="sprite"' if path.suffix == ".gif" else ""
        return f'<img{kind} alt="{name}" src="{source}">'

    def relative(self, path: Path) -> str:
        return escape(Path(os.path.relpath(path, self.folder)).as_posix(), quote=True)


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(str(column))}</th>" for column in table.columns)
    rows = "".join(
        f"<tr>{''.join(f'<td>{escape(_short(value))}</td>' for value in row)}</tr>"
        for row in table.rows
    )
    return f"<div><h3>{escape(table.title)}</h3><table><tr>{head}</tr>{rows}</table></div>"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.4g}" if abs(value) < 1e4 else f"{value:.2e}"
    return str(value)
