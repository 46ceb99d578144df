"""Rounds against one collector: some of its endpoints misbehave, the others are well, and both must show."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from shm.metric import SeriesKey
from tests.siege.harness import Violation, require
from tests.siege.hostile import HostileServer, Script
from tests.siege.targets_behaviour import Behaviour, Target, answers
from tests.siege.targets_watch import Tick, Watched

# A round is over when each endpoint has done what it must. On a machine with other work that is not the first tick.
_ROUND_TICKS: Final = 40
_ROUND_SECONDS: Final = 30.0


@dataclass
class Endpoint:
    """A target and the server that plays it. ``named``: how errors call it."""

    server: HostileServer
    target: Target
    named: str
    behaviours: list[Behaviour]
    left: Iterator[Behaviour] | None = None

    def behaves(self, script: Script | None = None) -> None:
        self.server.scripts[self.target.path] = script or answers(self.target.make, raw=self.target.raw)


@dataclass
class Siege:
    """One collector, and the endpoints that it asks."""

    watched: Watched
    endpoints: list[Endpoint]
    elsewhere: HostileServer  # where redirects lead to: nobody may ask it
    random: random.Random
    rounds: int = 0
    tried: set[tuple[str, str]] = field(default_factory=set)
    answers_changed: int = 0
    seen: dict[SeriesKey, set[float]] = field(default_factory=dict)

    def well(self) -> None:
        """Every endpoint is: wait until all of it is collected without an error."""
        self.round({})

    def round(self, bad: dict[int, Behaviour]) -> list[Tick]:
        """One round, in which the endpoints of those numbers behave so, and the others well."""
        for number, endpoint in enumerate(self.endpoints):
            endpoint.behaves(bad[number].script if number in bad else None)
        since_ns = time.time_ns()
        missing = {number: self._wanted(number, bad) for number in range(len(self.endpoints))}
        ticks: list[Tick] = []
        deadline = time.monotonic() + _ROUND_SECONDS
        while any(missing.values()):
            for tick in self.watched.new():
                if tick.timestamp_ns <= since_ns:
                    continue
                ticks.append(tick)
                self._held(tick, bad)
                missing = {number: self._still(number, tick, bad, left) for number, left in missing.items()}
            if len(ticks) > _ROUND_TICKS or time.monotonic() > deadline:
                raise Violation(self._said(missing, bad, ticks[-1] if ticks else None))
        self.rounds += 1
        self.tried |= {(self.endpoints[number].named, behaviour.name) for number, behaviour in bad.items()}
        return ticks

    def _wanted(self, number: int, bad: dict[int, Behaviour]) -> set[str]:
        wanted = set()
        if number not in bad or bad[number].spoils is not None:
            wanted.add("samples")
        if number in bad and bad[number].says:
            wanted.add("error")
        return wanted or {"tick"}

    def _still(self, number: int, tick: Tick, bad: dict[int, Behaviour], left: set[str]) -> set[str]:
        """What of an endpoint has not been seen yet, after this tick."""
        endpoint, behaviour = self.endpoints[number], bad.get(number)
        left = left - {"tick"}
        spoils = (behaviour.spoils if behaviour else None) or frozenset()
        if "samples" in left and _first(endpoint) - spoils <= tick.samples.keys():
            left = left - {"samples"}
        if "error" in left and behaviour and _says(tick.error, endpoint, behaviour):
            left = left - {"error"}
        return left

    def _held(self, tick: Tick, bad: dict[int, Behaviour]) -> None:
        """What must be true of every tick of a round."""
        require(
            not self.elsewhere.connections,
            f"a redirect was followed: {self.elsewhere.url} was asked {dict(self.elsewhere.asked)}",
        )
        for number, endpoint in enumerate(self.endpoints):
            behaviour = bad.get(number)
            if behaviour is not None and behaviour.bad:
                spoils = endpoint.target.series if behaviour.spoils is None else behaviour.spoils
                for key in spoils & tick.samples.keys():
                    raise Violation(
                        f"{endpoint.named} {behaviour.name}, and {key} has a sample, {tick.samples[key]} "
                        f"(error: {tick.error!r})"
                    )
            for key in _first(endpoint) & tick.samples.keys() if endpoint.target.unique else ():
                before = self.seen.setdefault(key, set())
                require(
                    tick.samples[key] not in before,
                    f"{key} has the sample {tick.samples[key]} again; no two answers of {endpoint.named} are equal",
                )
                before.add(tick.samples[key])

    def _said(self, missing: dict[int, set[str]], bad: dict[int, Behaviour], last: Tick | None) -> str:
        parts = []
        for number, left in missing.items():
            endpoint, behaviour = self.endpoints[number], bad.get(number)
            does = behaviour.name if behaviour else "is well"
            if "error" in left and behaviour:
                parts.append(f"{endpoint.named} {does}, and no error says {' or '.join(behaviour.says)!r} of it")
            if left - {"error"}:
                parts.append(f"{endpoint.named} {does}, and its samples are absent")
        error = f"{last.error!r}, samples: {sorted(last.samples)}" if last else "none"
        others = ", ".join(f"{self.endpoints[number].named} {behaviour.name}" for number, behaviour in bad.items())
        return f"{'; '.join(parts)} (round {self.rounds}: {others or 'all are well'}); the last collection said {error}"

    def mutated(self, ticks: int) -> None:
        """That many ticks of answers with bytes changed: no sample that an answer did not entitle to.

        Nobody can say what some answers mean of which bytes were changed: of these what holds of every tick is enough.
        """
        allowed: dict[SeriesKey, set[float]] = {}
        for endpoint in self.endpoints:

            def told(body: bytes, target: Target = endpoint.target) -> None:
                self.answers_changed += 1
                for key, value in target.entitles(body).items() if target.entitles else ():
                    allowed.setdefault(key, set()).add(value)

            endpoint.behaves(endpoint.target.mutated(self.random, told))
        judged = frozenset(key for one in self.endpoints if one.target.entitles for key in one.target.series)
        since_ns = time.time_ns()
        while ticks > 0:
            for tick in self.watched.new():
                if tick.timestamp_ns > since_ns:
                    for key in judged & tick.samples.keys():
                        value = tick.samples[key]
                        require(value in allowed.get(key, ()), f"{key} is {value}, which no answer of its target said")
                    ticks -= 1

    def bad_rounds(self, rounds: int) -> None:
        """Rounds of which each has one endpoint well, and over all of which every behaviour has its turn."""
        for number in range(rounds):
            well = number % len(self.endpoints)
            chosen = {i: self._next(i) for i in range(len(self.endpoints)) if i != well}
            self.round(chosen)

    def _next(self, number: int) -> Behaviour:
        endpoint = self.endpoints[number]
        following = next(endpoint.left, None) if endpoint.left else None
        if following is None:
            order = list(endpoint.behaviours)
            self.random.shuffle(order)
            if endpoint.left is None:
                order.sort(key=lambda one: (*endpoint.target.first, one.name).index(one.name))
            endpoint.left = iter(order)
            following = next(endpoint.left)
        return following


def _first(endpoint: Endpoint) -> frozenset[SeriesKey]:
    """The series that any sound answer has a sample of: rates need two."""
    return frozenset(key for key in endpoint.target.series if key[0] not in _LATER)


_LATER: Final = {"deployment_request_rate", "deployment_error_rate", "deployment_latency"}


def _says(error: str, endpoint: Endpoint, behaviour: Behaviour) -> bool:
    """Whether the error names the endpoint and the reason; of a label that can't be one, the collector has no more."""
    at = 0 if not behaviour.bad else error.find(endpoint.named)
    return at >= 0 and any(said in error[at:] for said in behaviour.says)
