"""P6: cost of a page of a day on processors without wide registers, and of numpy's sorts by processor feature.

numpy chooses its code at import, by the features of the processor. With NPY_DISABLE_CPU_FEATURES, an exporter uses the
code for a processor without these features; numpy takes most of the time of such a page.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from benchmarks import day, report, sorting
from benchmarks.day import FRAMES, Served
from benchmarks.harness import Answer, Effort, Target
from benchmarks.meter import Meter, cpu

_TURNS: Final = 7
_SORT_TURNS: Final = 3
_DAY: Final = "24h"
_FIRST: Final = "24h page"
_AGAIN: Final = "24h page after one more frame"
_NO_AVX512: Final = ", without AVX-512"


def ask(effort: Effort) -> Answer:
    answer = Answer("Without wide registers")
    found = sorting.found_features()
    if not found:
        answer.notes.append("On this processor numpy finds nothing above its baseline that could be disabled.")
        return answer
    without = f", without {', '.join(found)}"
    disabled = {"": [], _NO_AVX512: [one for one in found if sorting.is_avx512(one)], without: found}
    values = day.walks()
    with contextlib.ExitStack() as stack:
        meter = Meter()
        for name, features in disabled.items():
            environ = {sorting.DISABLE: " ".join(features)} if features else {}
            _add(meter, stack.enter_context(day.serving(values, environ)), name)
        answer.measured += meter.run(effort.turns(_TURNS))
    narrow = _FIRST + without
    for says, ratio in {
        "times the plain page": answer.median(narrow) / answer.median(_FIRST),
        "the same in CPU": answer.median(cpu(narrow)) / answer.median(cpu(_FIRST)),
    }.items():
        answer.targets.append(Target("P6", f"{narrow}: {says}", ratio, "most", 3.5))
    answer.notes += [
        f"`{sorting.DISABLE}` was set to what numpy lists as found, to those of them that are AVX-512, and to nothing. "
        "The three exporters take turns, each with a ring of its own that is filled with new values before its page.",
        "On AMD's Zen 4, the AVX-512 code of numpy's sort is slower than its AVX2 code: it stores compressed registers "
        "to memory, which that processor does in microcode.",
        _sorts(found, effort),
    ]
    return answer


def _add(meter: Meter, served: Served, name: str) -> None:
    for what, prepare in {_FIRST: lambda: served.renew(_DAY), _AGAIN: served.one_more}.items():
        meter.add(
            what + name, served.pid, lambda: served.page(_DAY), prepare=prepare,
            verify=lambda page: day.assert_covers(page, FRAMES),
        )  # fmt: skip


def _sorts(found: Sequence[str], effort: Effort) -> str:
    """A note with a table of np.sort and np.partition, with more and more features disabled."""
    sets: dict[str, list[str]] = {"all of them": []}
    sets |= {f"without {found[n]}": list(found[n:]) for n in reversed(range(len(found)))}
    turns: dict[str, list[Mapping[str, float]]] = {name: [] for name in sets}
    for _ in range(effort.turns(_SORT_TURNS)):
        for name, disabled in sets.items():
            turns[name].append(sorting.times(disabled))
    said = (
        "What numpy takes for the sorts by themselves, of 1,000 rows in the cache, as one feature after the other is "
        "disabled, each column also without those of the columns before it; milliseconds of CPU, medians of "
        f"{len(turns['all of them'])}. `partition` finds the least, the greatest and three percentiles in one call, "
        "`partitions` in calls of one place each, every next one among the samples above the one before:\n\n"
    )
    rows = []
    for function, length, values in itertools.product(sorting.FUNCTIONS, sorting.LENGTHS, sorting.VALUES):
        key = sorting.key(function, length, values)
        medians = [1000 * statistics.median(one[key] for one in some) for some in turns.values()]
        rows.append((f"{length:,}, {function}", values, *(f"{one:.1f}" for one in medians)))
    return said + textwrap.indent(report.rows(("rows of", "values", *sets), rows), "  ")  # within the list of notes
