"""Draw charts as small SVG files that are identical for identical figures: no date, no random names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.harness import Bars, Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart without colours, too.
_MARKERS = "os^Dv*"
_FONTS = ["DejaVu Sans", "Verdana", "Arial"]  # the first is drawn with, all are named in the file
_TICKS = 8  # more places than that on an axis, and matplotlib chooses its own


_NAMED_PERCENT = 6  # narrower, and a part has no room for its number


def write(path: Path, chart: Chart | Bars) -> None:
    """Draw one chart."""
    import matplotlib as mpl  # half a second, and of the extra bench: only who draws pays
    from matplotlib.figure import Figure

    # Text stays text, which is searched and small; the salt names the parts alike in each run.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": chart.name, "font.size": 10, "font.sans-serif": _FONTS}
    ):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        if isinstance(chart, Bars):
            _draw_bars(figure, axes, chart)
        else:
            _draw_lines(axes, chart)
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})


def _draw_lines(axes: Axes, chart: Chart) -> None:
    from matplotlib.ticker import FuncFormatter

    plain = FuncFormatter(lambda value, _: f"{value:,g}")
    for marker, (name, points) in zip(_MARKERS * len(chart.lines), chart.lines.items(), strict=False):
        axes.plot([x for x, _ in points], [y for _, y in points], marker=marker, markersize=5, label=name)
    if chart.log:
        axes.set_xscale("log")
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    places = sorted({x for points in chart.lines.values() for x, _ in points})
    if len(places) <= _TICKS:
        axes.set_xticks(places)
    axes.xaxis.set_major_formatter(plain)
    axes.yaxis.set_major_formatter(plain)
    axes.set(title=chart.title, xlabel=chart.x, ylabel=chart.y)
    axes.minorticks_off()
    axes.grid(which="major", color="0.85", linewidth=0.6)
    axes.legend(frameon=False)


def _draw_bars(figure: Figure, axes: Axes, chart: Bars) -> None:
    """Draw horizontal bars, the first on top; a part has the same colour in each bar."""
    import matplotlib as mpl

    axes.set_prop_cycle(color=mpl.color_sequences["tab20"])
    figure.set_size_inches(9, 2.5 + 0.8 * len(chart.bars))
    names = dict.fromkeys(part for parts in chart.bars.values() for part in parts)
    left = dict.fromkeys(chart.bars, 0.0)
    for name in names:
        widths = [parts.get(name, 0.0) for parts in chart.bars.values()]
        drawn = axes.barh(list(chart.bars), widths, left=list(left.values()), label=name)
        axes.bar_label(drawn, [f"{one:.0f}" if one >= _NAMED_PERCENT else "" for one in widths], label_type="center")
        left = {bar: at + width for (bar, at), width in zip(left.items(), widths, strict=True)}
    axes.invert_yaxis()
    axes.set(title=chart.title, xlabel=chart.x, xlim=(0, 100))
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
