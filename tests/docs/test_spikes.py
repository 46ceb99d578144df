"""docs/spikes.md: what a day of samples takes is what the layout says, and the example is a configuration."""

from __future__ import annotations

import math
from pathlib import Path

from collector import registry
from fogmetrics.config import parse
from shm.ring.layout import Header, aligned
from tests.docs.markdown import blocks, read, table

PAGE = read("docs/spikes.md")
COLUMNS = 16  # of the ring of node, and room for five more


def test_a_day_takes_what_the_layout_says() -> None:
    rows = table(PAGE, "sampled every", "frames in 24 h", "one more column", "the ring of node")
    assert len(rows) == 3
    for row in rows:
        frames = int(row["frames in 24 h"])
        assert math.isclose(frames * float(row["sampled every"].removesuffix(" s")), 86_400)
        assert row["one more column"] == f"{frames * 8 // 1024} KiB"
        size = Header("node", frames, COLUMNS, 1, 1, aligned(4096, 64), 1, bytes(16)).segment_bytes
        assert row["the ring of node"] == f"{size / 2**20:.1f} MiB"


def test_the_example_gives_one_source_a_day_at_a_sample_a_second() -> None:
    [example] = blocks(PAGE, "toml")
    config = parse(example.text, Path("fogmetrics.toml"))
    assert registry.capacity("node", config) * registry.times("node", config)[0] == 86_400
    assert registry.capacity("system", config) == 5760
