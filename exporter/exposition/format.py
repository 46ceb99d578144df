"""Write the elements of the two text formats: escapes, numbers, headers of families.

Prometheus text 0.0.4: https://prometheus.io/docs/instrumenting/exposition_formats/
OpenMetrics 1.0: https://github.com/OpenObservability/OpenMetrics/blob/main/specification/OpenMetrics.md
"""

from __future__ import annotations

import numpy as np
import orjson
from numpy.typing import NDArray

from exporter.exposition.names import Escaping, quoted, stem
from exporter.http.negotiation import Format

# https://github.com/prometheus/client_golang/blob/main/prometheus/testutil/promlint/validations/histogram_validations.go
_RESERVED_ENDINGS = ("_bucket", "_count", "_sum")


def escape_help(text: str, form: Format) -> str:
    escaped = text.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if form is Format.OPENMETRICS else escaped


def header(
    family: str, kind: str, help_text: str, unit: str, form: Format, escaping: Escaping = Escaping.UNDERSCORES
) -> str:
    """The HELP, TYPE and, in OpenMetrics, UNIT lines of a family, each ended by a newline.

    ``family`` is the name without ``_total``, which text 0.0.4 adds for a counter. UNIT is written only if the name
    ends in the unit, as OpenMetrics requires.

    A gauge whose name ends like a histogram's sample (deployment_replica_count) is ``untyped`` in text 0.0.4, because
    promtool's linter reserves those endings, except for untyped metrics. OpenMetrics, which Prometheus asks for, has no
    such rule; its word for ``untyped`` is ``unknown``.
    """
    name = stem(family, kind, escaping) + "_total" * (kind == "counter" and form is Format.TEXT)
    if form is Format.TEXT and kind not in ("histogram", "summary") and name.endswith(_RESERVED_ENDINGS):
        kind = "untyped"
    if form is Format.OPENMETRICS and kind == "untyped":
        kind = "unknown"
    shown = quoted(name)
    lines = f"# HELP {shown} {escape_help(help_text, form)}\n# TYPE {shown} {kind}\n"
    if form is Format.OPENMETRICS and unit and name.endswith(f"_{unit}"):
        lines += f"# UNIT {shown} {unit}\n"
    return lines


def numbers(values: NDArray[np.float64]) -> list[bytes]:
    """The text of each value: the shortest that reads back exactly. ``values``: float64, shape (n,).

    orjson writes a float64 array at 18 ns a number, repr takes 390; JSON has no NaN and no infinities, so those few are
    written here.
    """
    if len(values) == 0:
        return []
    written = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    for i in np.flatnonzero(~np.isfinite(values)).tolist():
        value = values[i]
        written[i] = b"NaN" if value != value else b"+Inf" if value > 0 else b"-Inf"
    return written


def timestamps(times_ms: NDArray[np.int64], form: Format) -> list[bytes]:
    """The text after each value: a space and the time, or nothing for 0. Milliseconds, in OpenMetrics seconds.

    ``times_ms``: int64, shape (n,). Most are equal, being those of one frame.
    """
    distinct, which = np.unique(times_ms, return_inverse=True)
    texts = [
        b"" if time == 0 else b" %d" % time if form is Format.TEXT else b" %d.%03d" % divmod(time, 1000)
        for time in distinct.tolist()
    ]
    return np.array([*texts, None], dtype=object)[which].tolist()  # type: ignore[no-any-return]  # None: never a "S" array
