"""Add to the site what its Markdown lacks: README and RESULTS as pages, the numbers of the
benchmarks, a place for every file of the repository that a page links to, and formulas as MathML.

Formulas are set when the site is built, so that a page needs no script and no network for them.
"""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

from math_core import LatexToMathML
from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "RESULTS.md"
BENCHMARKS = ROOT / "benchmarks" / "README.md"
PAGES = {README: "index.md", BENCHMARKS: "benchmarks.md", RESULTS: "results.md"}
LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
MODULE = re.compile(r"\]\(((?:rnade_lightning|datamodules)[\w/]*)(?:\.py)?\)")
ELSEWHERE = re.compile(r"\[([^\]]+)\]\((?!\w+:|#)[^)]+(?<!\.md)\)")  # links to what is no page
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
TAG = re.compile(r"\\tag\{(.*?)\}")

mathml = LatexToMathML(fancy_error=False).convert_with_local_state


def on_files(files: Files, config: Any) -> Files:
    files.append(File.generated(config, "index.md", content=README.read_text(encoding="utf-8")))
    results = ELSEWHERE.sub(r"\1", RESULTS.read_text(encoding="utf-8"))
    files.append(File.generated(config, "results.md", content=results))
    for page in (README, *(ROOT / "docs").glob("*.md")):
        for link in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / link).resolve()
            name = path.relative_to(ROOT).as_posix()
            elsewhere = path.is_dir() or path.suffix == ".py" or path in PAGES
            if not elsewhere and not name.startswith("docs/") and name not in files.src_uris:
                files.append(
                    File.generated(
                        config, name, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV
                    )
                )
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    if page.file.src_uri == "benchmarks.md" and BENCHMARKS.is_file():
        numbers = BENCHMARKS.read_text(encoding="utf-8").partition("\n")[2]  # without its title
        markdown += "\n## Measured\n" + _moved(numbers, BENCHMARKS.parent)
    if "/" in page.file.src_uri:
        return markdown
    of_root = page.file.src_uri in ("index.md", "results.md")
    return _moved(markdown, ROOT if of_root else ROOT / "docs")


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    return FORMULA.sub(_formula, html)


def _moved(markdown: str, folder: Path) -> str:
    """Return a page of a folder with its links moved: to modules, their place in the API; to other
    files, their place in the site, which is that in docs/ or in the repository."""

    def place(match: re.Match[str]) -> str:
        path = (folder / match[1]).resolve()
        if path in PAGES:
            return PAGES[path]
        if not path.is_relative_to(ROOT):
            return match[1]
        return path.relative_to(ROOT).as_posix().removeprefix("docs/")

    def entry(match: re.Match[str]) -> str:
        name = match[1].strip("/").replace("/", ".")
        return f"][{name.replace('datamodules', 'rnade_lightning.datamodules', 1)}]"

    return MODULE.sub(entry, LINK.sub(place, markdown))


def _formula(match: re.Match[str]) -> str:
    kind, source = match[1], unescape(match[2])
    if kind == "span":
        return mathml(source, displaystyle=False)
    tag = TAG.search(source)
    number = f'<span class="number">({tag[1]})</span>' if tag else ""
    formula = mathml(TAG.sub("", source), displaystyle=True)
    return f'<div class="formula">{formula}{number}</div>'
