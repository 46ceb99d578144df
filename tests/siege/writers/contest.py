"""The programs of the check ``writers``: ``python -m tests.siege.writers.contest race|reuse NAMESPACE …``."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from typing import Final

from shm.errors import WriterBusy
from shm.files import unlink
from shm.process import WriterInfo, start_ticks, writer_alive
from shm.ring.reader import RingReader
from tests.rings import append_proof, check, open_writer, sequences
from tests.siege.harness import require
from tests.siege.processes import Done, Unable, adopt_orphans, main
from tests.siege.writers.contender import Contender, Gate, Message

_TICK_SECONDS: Final = 0.025  # the clock of start times advances meanwhile: its tick is 10 ms


def _starts(namespace: str, count: int, threads: int = 1) -> tuple[Gate, list[Contender]]:
    gate = Gate()
    return gate, [Contender(namespace, gate, threads) for _ in range(count)]


def _start(namespace: str) -> tuple[Contender, Message]:
    """One start, and its answer."""
    gate, [one] = _starts(namespace, 1)
    gate.open()
    return one, one.answer()


class Contest:
    """Rounds for one ring; ``head`` is what its next writer must find."""

    def __init__(self, namespace: str, chance: random.Random) -> None:
        self.namespace = namespace
        self.chance = chance
        self.head = 0
        self.counts: Counter[str] = Counter()

    def unhindered(self, why: str) -> Contender:
        """A start that must succeed."""
        one, answer = _start(self.namespace)
        require("won" in answer, f"I5: {why}, a start was refused for process {answer.get('busy')}")
        self.took_over(answer)
        return one

    def took_over(self, answer: Message) -> None:
        require(answer["resumed"] == self.head, f"I3: a writer resumed at {answer['resumed']}, not at {self.head}")
        self.head += 1

    def refused(self, pid: int, why: str) -> None:
        """A start that must be refused, for that process."""
        one, answer = _start(self.namespace)
        busy = answer.get("busy")
        require(busy == [pid], f"I5: {why}, a start was not refused for process {pid}, but answered {answer}")
        one.reap()
        self.counts["refused starts"] += 1

    def leave(self, holder: Contender) -> None:
        """End the holder, one way or the other."""
        if self.chance.random() < 0.5:
            holder.ask("close")
        else:
            holder.kill()
            self.counts["holders killed"] += 1
        holder.reap()

    def judge(self, contenders: list[Contender], before: Contender | None = None, until_ns: int = 0) -> None:
        """Exactly one of the contenders won, or, beside a writer that was just ending, at most one."""
        answers = [one.answer() for one in contenders]
        winners = [one for one, answer in zip(contenders, answers, strict=True) if "won" in answer]
        writers = sum(answer.get("won", 0) for answer in answers)
        require(writers <= 1, f"I5: {writers} writers of one ring at once, of {len(contenders)} processes")
        require(writers == 1 or before, f"I5: none of {len(contenders)} starts at once got the ring that was free")
        named = {pid for answer in answers for pid in answer.get("busy", ())}
        holders = {one.pid for one in (*winners, *([before] if before else []))}
        require(named <= holders, f"I5: a start was refused for process {named - holders}; the writers were {holders}")
        self.counts["refused starts"] += sum(len(answer.get("busy", ())) for answer in answers)
        for winner, answer in zip(contenders, answers, strict=True):
            if "won" not in answer:
                winner.reap()
                continue
            early = before is not None and answer["since"] < until_ns
            require(not early, f"I5: process {winner.pid} was the writer before its predecessor had ended")
            self.took_over(answer)
            if self.chance.random() < 0.3:
                self.refused(winner.pid, f"process {winner.pid} had won")
            self.leave(winner)

    # ---- kinds of rounds ------------------------------------------------------------------------------------

    def at_one_instant(self) -> None:
        if self.chance.random() < 0.1:  # nobody has a ring yet: all would create it
            unlink(self.namespace, "s")
            self.head = 0
        gate, contenders = _starts(self.namespace, 2 if self.chance.random() < 0.7 else self.chance.randint(3, 8))
        gate.open()
        self.judge(contenders)

    def by_several_threads_each(self) -> None:
        gate, contenders = _starts(self.namespace, 2, threads=3)
        gate.open()
        self.judge(contenders)

    def beside_a_writer_that_was_ending(self) -> None:
        before = self.unhindered("the ring was free")
        gate, contenders = _starts(self.namespace, 2)
        pause = self.chance.choice((0.0, self.chance.uniform(0, 0.002)))
        killed, late = self.chance.random() < 0.6, self.chance.random() < 0.5
        if late:
            gate.open()
        time.sleep(pause)
        until_ns = time.monotonic_ns()
        if killed:
            before.kill()
        else:
            before.send("close")
        if not late:
            time.sleep(pause)
            gate.open()
        if not killed:
            until_ns = before.answer()["until"]
        self.judge(contenders, before, until_ns)
        before.reap()

    def all_killed_in_mid_start(self) -> None:
        gate, contenders = _starts(self.namespace, 2)
        gate.open()
        time.sleep(self.chance.uniform(0, 0.003))
        for one in contenders:
            one.kill()
        for one in contenders:
            one.reap()
        following, answer = _start(self.namespace)
        require("won" in answer, f"I5: all were killed, but a start was refused for process {answer.get('busy')}")
        found, most = answer["resumed"], self.head + len(contenders)
        require(self.head <= found <= most, f"I3: after {self.head} to {most} frames the next writer found {found}")
        self.head = found
        self.took_over(answer)
        self.leave(following)

    def with_a_fork_or_child_of_the_writer(self) -> None:
        parent = self.unhindered("the ring was free")
        order = self.chance.choice(("fork", "short fork", "run"))
        answer = parent.ask(order)
        child, possible = answer["fork"], answer.get("possible")
        try:
            require(not possible, f"I5: a fork of the writer could {possible}")
            if order == "short fork":
                self.refused(parent.pid, "a fork of the writer had closed it and ended")
                self.leave(parent)
            else:
                self.refused(parent.pid, "the writer lived beside its child")
                parent.kill()
                parent.reap()
                os.kill(child, 0)
                self.leave(self.unhindered("the writer was killed, a child of it lives"))
        finally:
            if order != "short fork":  # that one has ended, and its number may be another's
                os.kill(child, signal.SIGKILL)
        if order != "short fork":
            os.waitpid(child, 0)  # an orphan that this process adopted


def race(namespace: str, rounds: str, seed: str) -> Done:
    """So many rounds, of every kind; what was done in them."""
    adopt_orphans()
    chance = random.Random(int(seed))
    contest = Contest(namespace, chance)
    _in_one_process(contest)
    kinds = [
        contest.at_one_instant, contest.by_several_threads_each, contest.beside_a_writer_that_was_ending,
        contest.all_killed_in_mid_start, contest.with_a_fork_or_child_of_the_writer,
    ]  # fmt: skip
    for number in range(int(rounds)):
        kind = kinds[number] if number < len(kinds) else chance.choices(kinds, (50, 10, 20, 10, 10))[0]
        kind()
        contest.counts[f"rounds {kind.__name__.replace('_', ' ')}"] += 1
    with RingReader(namespace, "s") as reader:
        held = sequences(reader)
        require(held and held[-1] == contest.head, f"I3: the ring ends at {held[-1:]}, not at {contest.head}")
        for sequence in held:
            frame = reader.frame(sequence)
            require(frame is not None, f"I1: frame {sequence} is not whole")
            assert frame is not None
            check(frame, 2)
    return dict(contest.counts)


def _in_one_process(contest: Contest) -> None:
    """A second writer in the writer's own process is refused and takes nothing from the first."""
    with open_writer(contest.namespace, columns=2) as writer:
        for use in (lambda: open_writer(contest.namespace), lambda: unlink(contest.namespace, "s")):
            try:
                use()
                require(False, "I5: a second writer in the same process was let in beside the first")
            except WriterBusy as busy:
                require(busy.pid == os.getpid(), f"I5: the writer is {os.getpid()}, {busy.pid} was named")
        contest.refused(os.getpid(), "a second writer in the same process was refused")
        append_proof(writer)
        contest.head = 1


# ---- numbers used again ----------------------------------------------------------------------------------------


def reuse(namespace: str, times: str) -> Done:
    """In a pid namespace of its own: another process gets the number of a dead writer, and starts as the writer."""
    for _ in range(int(times)):
        first, _ = _start(namespace)
        info = _info(namespace)
        require(info.pid == first.pid, f"the header names {info.pid}, not {first.pid}")
        require(writer_alive(info, 10**9), "a writer that lives is said to be dead")
        first.kill()
        first.reap()
        require(not writer_alive(info, 10**9), "a writer that was killed is said to be alive")
        time.sleep(_TICK_SECONDS)
        gate, second = _process_of_number(namespace, first.pid)
        assert start_ticks(second.pid) != info.start_ticks
        require(not writer_alive(info, 10**9), f"I5: the writer's pid {info.pid} was reused, and it is said to live")
        gate.open()
        answer = second.answer()
        require("won" in answer, f"I5: a process with its predecessor's pid was refused: {answer}")
        require(writer_alive(_info(namespace), 10**9), "a writer with a reused pid is said to be dead")
        third, answer = _start(namespace)
        require(answer.get("busy") == [second.pid], "I5: the holder's pid was not named")
        third.reap()
        second.kill()
        second.reap()
    return {"pids reused": int(times)}


def _info(namespace: str) -> WriterInfo:
    with RingReader(namespace, "s") as reader:
        return reader.writer


def _process_of_number(namespace: str, pid: int) -> tuple[Gate, Contender]:
    for _ in range(10):
        gate = Gate()
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
        except OSError as error:
            raise Unable(f"the next process's number can't be chosen here: {error}") from None
        one = Contender(namespace, gate)
        if one.pid == pid:
            return gate, one
        one.kill()
        one.reap()
        gate.open()
    raise AssertionError(f"no process got the number {pid}")


if __name__ == "__main__":
    raise SystemExit(main({"race": race, "reuse": reuse}))
