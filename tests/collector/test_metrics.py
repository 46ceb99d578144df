from __future__ import annotations

from collector import metrics


def test_the_daemons_own_metrics_are_marked_and_carry_the_source() -> None:
    own = (*metrics.OWN, *metrics.OPTIONAL)
    assert all(metric.own for metric in own)
    assert {metric.name for metric in own if metric.label_names[0] != "source"} == {
        metrics.APPLICATION_PROCESSES.name  # of one source, and of several applications
    }
    assert not any(metric.own for metric in metrics.ALL)
