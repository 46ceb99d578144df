"""P12: cost of gzip for a page that changed, and of other libraries and levels for the same bytes."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from benchmarks.harness import Answer, Effort, Measured, Missing, Target, cpu_seconds_each, in_turns
from benchmarks.served import Rings, scraping

_SERIES = 10_000
_CAPACITY = 64  # enough: of these rings nobody asks for a window
_PLAIN, _GZIP = "the page, not compressed", "the page, compressed"
_HOW = "pip install 'fogmetrics[bench]'"

Compress = Callable[[bytes], bytes]


def ask(effort: Effort) -> Answer:
    answer = Answer("Compression")
    libraries = _libraries(answer)
    with Rings(_SERIES, _CAPACITY) as rings, scraping(rings.namespace) as scrapers:
        rings.append()
        # At first in a row, so that both are of the same frame.
        bodies = {_PLAIN: scrapers.get("/metrics"), _GZIP: scrapers.get("/metrics", "gzip")}
        page = bodies[_PLAIN]

        def cost(coding: str) -> Callable[[], float]:
            return lambda: scrapers.cost("/metrics", effort.many(20), rings.append, coding).cpu_seconds

        def alone(compress: Compress) -> Callable[[], float]:
            return lambda: cpu_seconds_each(lambda: compress(page), effort.many(20))

        jobs = {_PLAIN: cost("identity"), _GZIP: cost("gzip")}
        found = in_turns(jobs | {name: alone(one) for name, one in libraries.items()}, effort.turns(21))
    for name, compress in libraries.items():
        bodies[name] = compress(page)
        assert gzip.decompress(bodies[name]) == page, f"{name} gave something else"
    answer.measured += [Measured(f"CPU: {what}", "ms", [one * 1e3 for one in each]) for what, each in found.items()]
    answer.measured += [Measured(f"size: {what}", "KiB", [len(body) / 1024]) for what, body in bodies.items()]
    plain = answer.median(f"CPU: {_PLAIN}")
    ours = answer.median(f"CPU: {_GZIP}") / plain - 1
    answer.targets = [Target("P12", "what gzip adds to a page, against the page itself", ours, "most", 2)]
    ratios = "; ".join(f"{name}: {answer.median(f'CPU: {name}') / plain:.2f}" for name in libraries)
    answer.notes = [
        f"The first two are CPU of the exporter over HTTP, {_SERIES:,} series of ten sources, every value new in each "
        "request; what gzip adds is their difference. The others compress the bytes of one such page in this process.",
        f"In times of the page's own CPU: {ratios}.",
        "Names and labels repeat, numbers don't: most of what is left is digits, whatever the level.",
    ]
    return answer


def _libraries(answer: Answer) -> dict[str, Compress]:
    """The compared libraries and levels, by name. Libraries that are not installed are added as missing."""
    found: dict[str, Compress] = {f"zlib at level {level}": _zlib(level) for level in (1, 6)}
    try:
        from isal import igzip
    except ImportError:
        answer.missing.append(Missing("isal", _HOW))
    else:
        found |= {f"isal at level {level}": _at(igzip.compress, level) for level in (0, 1, 3)}
    try:
        from zlib_ng import gzip_ng
    except ImportError:
        answer.missing.append(Missing("zlib-ng", _HOW))
    else:
        found |= {f"zlib-ng at level {level}": _at(gzip_ng.compress, level) for level in (1, 2)}
    return found


def _at(compress: Callable[[bytes, int], bytes], level: int) -> Compress:
    return lambda page: compress(page, level)


def _zlib(level: int) -> Compress:
    return lambda page: gzip.compress(page, level, mtime=0)  # as the exporter calls it
