"""Claims about all pages: links lead somewhere, commands exist, queries parse, messages are the code's own."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from exporter.http.parameters import parse_aggregated_query, parse_metrics_query
from tests.docs.markdown import PAGES, ROOT, anchors, blocks, curl_targets, links, read
from tests.packages import PRODUCT

NAMES = [str(path.relative_to(ROOT)) for path in PAGES]


@pytest.mark.parametrize("name", NAMES)
def test_every_internal_link_leads_to_a_file_and_a_heading(name: str) -> None:
    for link in links(read(name)):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", f"{name}: {link}"
            continue
        target = (ROOT / name).parent / parts.path if parts.path else ROOT / name
        assert target.exists(), f"{name}: {link} leads nowhere"
        if parts.fragment:
            assert parts.fragment in anchors(target.read_text()), f"{name}: {link} names no heading"


@pytest.mark.parametrize("name", NAMES)
def test_every_make_command_is_a_target_of_the_makefile(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    text = read(name)
    named = re.findall(r"`make ([a-z]+)", text)
    named += re.findall(r"^\$ (?:[A-Z_]+=\S+ )*make ([a-z]+)", text, re.MULTILINE)
    assert set(named) <= targets, f"{name} names {sorted(set(named) - targets)}"


def test_the_readme_has_the_two_commands() -> None:
    [first, *_] = blocks(read("README.md"), "console")
    assert re.findall(r"^\$ (make \w+)", first.text, re.MULTILINE) == ["make run", "make test"]


@pytest.mark.parametrize("name", NAMES)
def test_every_example_request_parses_or_is_shown_with_its_error(name: str) -> None:
    for target in curl_targets(read(name)):
        parts = urlsplit(target)
        pairs = parse_qsl(parts.query, keep_blank_values=True)
        assert parts.path in ("/metrics", "/metrics/aggregated", "/stats", "/health"), target
        if pairs in ([("window", "5x")], [("foo", "1")]):
            continue
        if parts.path == "/metrics/aggregated":
            parse_aggregated_query(pairs, 300 * 10**9)
        elif parts.path == "/metrics":
            parse_metrics_query(pairs)


@pytest.mark.parametrize("name", NAMES)
def test_promql_stands_in_blocks_of_its_own(name: str) -> None:
    text = read(name)
    others = [block.text for block in blocks(text) if block.language != "promql"]
    assert not [one for one in others if re.search(r"\[\d+[smhd]\]", one.replace("window: [5m]", ""))]
    for block in blocks(text, "promql"):
        assert block.text.count("{") == block.text.count("}")
        assert "curl" not in block.text


@pytest.mark.parametrize("name", NAMES)
def test_no_fence_stays_open_and_no_placeholder_is_left(name: str) -> None:
    text = read(name)
    assert text.count("\n```") % 2 == 0
    assert not re.search(r"@\w+@", text)


# ---- messages ----------------------------------------------------------------------------------------------

_LEAST_LITERAL = 10  # characters of a string that are the code's own words, for it to say anything
_LEAST_SHARE = 0.25  # of a message that must be the code's own words; the rest are values


def _literals() -> list[tuple[str, ...]]:
    """Each string of the code with words enough of its own: its parts, between which its values stand."""
    found = set()
    for package in PRODUCT:
        for path in sorted(Path(ROOT, package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                parts = node.values if isinstance(node, ast.JoinedStr) else [node]
                texts = tuple(
                    one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)
                )
                if sum(map(len, texts)) >= _LEAST_LITERAL:
                    found.add(texts)
    return sorted(found)


def _holds(line: str, texts: Iterable[str]) -> bool:
    """Whether these stand in the line one behind the other, whatever is between them."""
    place = 0
    for text in texts:
        if (place := line.find(text, place)) < 0:
            return False
        place += len(text)
    return True


def _is_of_the_code(line: str, literals: list[tuple[str, ...]]) -> bool:
    return sum(sum(map(len, texts)) for texts in literals if _holds(line, texts)) >= _LEAST_SHARE * len(line)


def _events() -> set[str]:
    events: set[str] = set()
    for package in PRODUCT:
        for path in Path(ROOT, package).rglob("*.py"):
            events |= set(re.findall(r'log\.\w+\(\s*"([^"]+)"', path.read_text()))
            events |= set(re.findall(r'"(source [a-z ]+)"', path.read_text()))
    return events


def test_every_message_in_troubleshooting_is_one_of_the_code() -> None:
    literals, events = _literals(), _events()
    text = read("docs/troubleshooting.md")
    lines = [line for block in blocks(text, "text") for line in block.text.splitlines()]
    assert len(lines) > 15
    for line in lines:
        assert line.startswith("event=") or _is_of_the_code(line, literals), f"no string of the code is like: {line}"
        # The check is worth something only if a message that is worded otherwise fails it.
        worded_otherwise = re.sub(r"[aeiou]", "y", line)
        assert not _is_of_the_code(worded_otherwise, literals), line
    for event in re.findall(r'event="([^"]+)"', text):
        assert event in events, f"no log line says {event!r}"
