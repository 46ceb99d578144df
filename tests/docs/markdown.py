"""Reading the documentation: its files, its tables, its fenced blocks, its links. Pure but for the files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_OTHERS = ("README.md", "CHANGELOG.md", "benchmarks/LOG.md")
PAGES = tuple(sorted([*(ROOT / name for name in _OTHERS), *(ROOT / "docs").glob("*.md")]))

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Block:
    """A fenced block: the word after its fence, and its text."""

    language: str
    text: str


def read(name: str) -> str:
    """A page by its path from the repository's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[Block]:
    """The fenced blocks, of all languages where none is named."""
    found = [Block(language, body) for language, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)]
    return [block for block in found if not languages or block.language in languages]


def prose(text: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.M | re.S)


def tables(text: str) -> Iterator[list[dict[str, str]]]:
    """Each table as its rows, by column title; cells without their backquotes."""
    lines = prose(text).splitlines()
    for at, line in enumerate(lines[1:], 1):
        if not re.fullmatch(r"\|(?:-+\|)+", line):
            continue
        titles = _cells(lines[at - 1])
        rows = []
        for row in lines[at + 1 :]:
            if not row.startswith("|"):
                break
            rows.append(dict(zip(titles, _cells(row), strict=True)))
        yield rows


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("\\|", "|").strip("`") for cell in _CELL.split(line)[1:-1]]


def table(text: str, *titles: str) -> list[dict[str, str]]:
    """The rows of all tables with exactly these columns, in their order. Fails when there is none."""
    found = [row for rows in tables(text) for row in rows if tuple(row) == titles]
    assert found, f"no table with the columns {', '.join(titles)}"
    return found


def links(text: str) -> list[str]:
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()).strip().replace(" ", "-")
        for heading in _HEADING.findall(prose(text))
    }


def curl_targets(text: str) -> list[str]:
    """Path and query of every request that an example makes of the exporter."""
    return re.findall(r"localhost:9200(/[^\s'\"]*)", "".join(block.text for block in blocks(text)))
