"""Charts as SVG, light on bytes, and the same bytes from the same figures: no date, no random names."""

from __future__ import annotations

from pathlib import Path

from benchmarks.harness import Chart

# Told apart without colours, too.
_MARKERS = "os^Dv*"
_FONTS = ["DejaVu Sans", "Verdana", "Arial"]  # the first is drawn with, all are named in the file
_TICKS = 8  # more places than that on an axis, and matplotlib chooses its own


def write(path: Path, chart: Chart) -> None:
    """Draw one chart."""
    import matplotlib as mpl  # half a second, and of the extra bench: only who draws pays
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    plain = FuncFormatter(lambda value, _: f"{value:,g}")
    # Text stays text, which is searched and small; the salt names the parts alike in each run.
    with mpl.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": chart.name, "font.size": 10, "font.sans-serif": _FONTS}
    ):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
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
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, metadata={"Date": None, "Creator": None})
