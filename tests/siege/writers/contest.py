"""Programs of the check ``writers``: ``python -m tests.siege.writers.contest race|reuse|same_process NAMESPACE …``."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from shm.errors import WriterBusy
from shm.files import unlink
from shm.process import WriterInfo, start_ticks, writer_alive
from shm.ring.reader import RingReader
from tests.rings import append_proof, check, open_writer, sequences
from tests.siege import processes as apart
from tests.siege.harness import require
from tests.siege.writers.contender import Contender, Gate, Message

_TICK_SECONDS: Final = 0.025  # the clock of start times goes on in between: 10 ms on every Linux of ours


class Contest:
    """Round after round for one ring; ``head`` is what its next writer must find."""

    def __init__(self, namespace: str, chance: random.Random) -> None:
        self.namespace = namespace
        self.chance = chance
        self.head = 0
        self.counts: Counter[str] = Counter()

    def starts(self, count: int, threads: int = 1) -> tuple[Gate, list[Contender]]:
        gate = Gate()
        self.counts["starts"] += count * threads
        contenders = [Contender(self.namespace, gate, threads) for _ in range(count)]
        return gate, contenders

    def alone(self, why: str) -> Contender:
        """A start that nobody may hinder."""
        gate, [one] = self.starts(1)
        gate.open()
        answer = one.answers()
        require("won" in answer, f"I5: {why}, a start was refused for process {answer.get('busy')}")
        self.took_over(answer)
        return one

    def took_over(self, answer: Message) -> None:
        require(answer["resumed"] == self.head, f"I3: a writer resumed at {answer['resumed']}, not at {self.head}")
        self.head += 1

    def refused(self, holder: Contender, why: str) -> None:
        """A start that must be refused, and told of the holder."""
        gate, [one] = self.starts(1)
        gate.open()
        answer = one.answers()
        require(
            answer.get("busy") == [holder.pid],
            f"I5: {why}, a start was not refused for process {holder.pid}, but got {answer}",
        )
        one.reap()
        self.counts["refused"] += 1

    def leave(self, holder: Contender) -> None:
        """End the holder, one way or the other."""
        if self.chance.random() < 0.5:
            holder.tell("close")
        else:
            holder.kill()
            self.counts["holders killed"] += 1
        holder.reap()

    def judge(self, contenders: list[Contender], before: Contender | None, until_ns: Callable[[], int]) -> None:
        """Of the contenders one won, or, beside a writer that was just ending, at most one."""
        answers = [one.answers() for one in contenders]
        winners = [one for one, answer in zip(contenders, answers, strict=True) if "won" in answer]
        writers = sum(answer.get("won", 0) for answer in answers)
        require(writers <= 1, f"I5: {writers} writers of one ring at once, of {len(contenders)} processes")
        require(writers == 1 or before, f"I5: none of {len(contenders)} starts at once got the ring that was free")
        named = {pid for answer in answers for pid in answer.get("busy", ())}
        holders = {one.pid for one in (*winners, *([before] if before else []))}
        require(named <= holders, f"I5: a start was refused for process {named - holders}; the writers were {holders}")
        self.counts["refused"] += sum(len(answer.get("busy", ())) for answer in answers)
        if winners:
            [winner] = winners
            [answer] = [one for one in answers if "won" in one]
            require(
                before is None or answer["since"] >= until_ns(),
                f"I5: process {winner.pid} was the writer before process {before.pid if before else 0} had ended",
            )
            self.took_over(answer)
            if self.chance.random() < 0.3:
                self.refused(winner, f"process {winner.pid} had won")
            self.leave(winner)
        for one in contenders:
            if one not in winners:
                one.reap()

    # ---- kinds of rounds ------------------------------------------------------------------------------------

    def at_once(self) -> None:
        if self.chance.random() < 0.1:  # nobody has a ring yet: all would create it
            unlink(self.namespace, "s")
            self.head = 0
        gate, contenders = self.starts(2 if self.chance.random() < 0.7 else self.chance.randint(3, 8))
        gate.open()
        self.judge(contenders, None, lambda: 0)
        self.counts["at once"] += 1

    def by_threads(self) -> None:
        gate, contenders = self.starts(2, threads=3)
        gate.open()
        self.judge(contenders, None, lambda: 0)
        self.counts["threads"] += 1

    def beside_one_that_ends(self) -> None:
        before = self.alone("the ring was free")
        gate, contenders = self.starts(2)
        pause = self.chance.choice((0.0, self.chance.uniform(0, 0.002)))
        killed = self.chance.random() < 0.6
        late = self.chance.random() < 0.5
        if late:
            gate.open()
        time.sleep(pause)
        until_ns = time.monotonic_ns()
        if killed:
            before.kill()
        elif not late:
            before.send("close")
        if not late:
            time.sleep(pause)
            gate.open()
        if not killed:
            until_ns = (before.tell("close") if late else before.answers())["until"]
        self.judge(contenders, before, lambda: until_ns)
        before.reap()
        self.counts["beside one that ends"] += 1

    def all_killed(self) -> None:
        gate, contenders = self.starts(2)
        gate.open()
        time.sleep(self.chance.uniform(0, 0.003))
        for one in contenders:
            one.kill()
        for one in contenders:
            one.reap()
        gate, [next_] = self.starts(1)
        gate.open()
        answer = next_.answers()
        require("won" in answer, f"I5: all were killed, but a start was refused for process {answer.get('busy')}")
        found = answer["resumed"]
        require(
            self.head <= found <= self.head + len(contenders),
            f"I3: {len(contenders)} writers were killed at {self.head} frames, the next one found {found}",
        )
        self.head = found
        self.took_over(answer)
        self.leave(next_)
        self.counts["all killed"] += 1

    def forked(self) -> None:
        parent = self.alone("the ring was free")
        order = self.chance.choice(("fork", "short fork", "run"))
        answer = parent.tell(order)
        child, possible = answer["fork"], answer.get("possible")
        try:
            require(not possible, f"I5: a fork of the writer could {possible}")
            if order == "short fork":
                self.refused(parent, "a fork of the writer had closed it and ended")
                self.leave(parent)
            else:
                self.refused(parent, "the writer lived beside its child")
                parent.kill()
                parent.reap()
                os.kill(child, 0)
                self.leave(self.alone("the writer was killed, a child of it lives"))
        finally:
            if order != "short fork":  # that one has ended, and its number may be another's
                os.kill(child, signal.SIGKILL)
        if order != "short fork":
            os.waitpid(child, 0)  # an orphan that we adopted
        self.counts["forks"] += 1


def race(namespace: str, rounds: str, seed: str) -> apart.Done:
    """That many rounds; what was done in them."""
    apart.adopt_orphans()
    chance = random.Random(int(seed))
    contest = Contest(namespace, chance)
    kinds = [contest.at_once, contest.by_threads, contest.beside_one_that_ends, contest.all_killed, contest.forked]
    for number in range(int(rounds)):
        kind = kinds[number] if number < len(kinds) else chance.choices(kinds, (50, 10, 20, 10, 10))[0]
        kind()
    with RingReader(namespace, "s") as reader:
        held = sequences(reader)
        require(held and held[-1] == contest.head, f"I3: the ring ends at {held[-1:]}, not at {contest.head}")
        for sequence in held:
            frame = reader.frame(sequence)
            require(frame is not None, f"I1: frame {sequence} is not whole")
            assert frame is not None
            check(frame, 2)
    return dict(contest.counts)


# ---- the same process, numbers used again ---------------------------------------------------------------------


def same_process(namespace: str) -> apart.Done:
    """A second writer in the writer's own process is refused and takes nothing from the first."""
    refused = 0
    with open_writer(namespace, columns=2) as writer:
        for use in (lambda: open_writer(namespace), lambda: unlink(namespace, "s")):
            try:
                use()
                require(False, "I5: a second writer in the same process was let in beside the first")
            except WriterBusy as busy:
                require(busy.pid == os.getpid(), f"I5: the writer is {os.getpid()}, {busy.pid} was named")
            refused += 1
        gate = Gate()
        other = Contender(namespace, gate)
        gate.open()
        answer = other.answers()
        require(
            answer.get("busy") == [os.getpid()], f"I5: a refused second writer freed the first one's lock: {answer}"
        )
        other.reap()
        append_proof(writer)
    return {"refused": refused}


def reuse(namespace: str, times: str) -> apart.Done:
    """In a pid namespace of our own: the number of a dead writer is given to another process."""
    done: Counter[str] = Counter()
    for number in range(int(times)):
        first = _winner(namespace)
        info = _info(namespace)
        require(info.pid == first.pid, f"the header names {info.pid}, not {first.pid}")
        require(writer_alive(info, 10**9), "a writer that lives is said to be dead")
        first.kill()
        first.reap()
        require(not writer_alive(info, 10**9), "a writer that was killed is said to be alive")
        time.sleep(_TICK_SECONDS)
        with _process_of_number(namespace, first.pid, contend=number % 2 == 1) as second:
            assert start_ticks(second.pid) != info.start_ticks
            require(
                not writer_alive(info, 10**9), f"I5: the writer's pid {info.pid} was reused, and it is said to live"
            )
            if number % 2:
                answer = second.answers()
                require("won" in answer, f"I5: a process with its predecessor's pid was refused: {answer}")
                require(writer_alive(_info(namespace), 10**9), "a writer with a reused pid is said to be dead")
                gate = Gate()
                third = Contender(namespace, gate)
                gate.open()
                require(third.answers().get("busy") == [second.pid], "I5: the holder's pid was not named")
                third.reap()
            else:
                third = _winner(namespace)
                third.tell("close")
                third.reap()
        done["reused"] += 1
    return dict(done)


def _info(namespace: str) -> WriterInfo:
    with RingReader(namespace, "s") as reader:
        return reader.writer


def _winner(namespace: str) -> Contender:
    gate = Gate()
    one = Contender(namespace, gate)
    gate.open()
    answer = one.answers()
    require("won" in answer, f"I5: a start was refused though no writer lives: {answer}")
    return one


@contextlib.contextmanager
def _process_of_number(namespace: str, pid: int, contend: bool) -> Iterator[Contender]:
    """A process of that number, that contends for the ring or only waits."""
    for _ in range(10):
        gate = Gate()
        try:
            with open("/proc/sys/kernel/ns_last_pid", "w") as file:
                file.write(str(pid - 1))
        except OSError as error:
            raise apart.Unable(f"the next process's number can't be chosen here: {error}") from None
        one = Contender(namespace, gate)
        if one.pid == pid:
            break
        one.kill()
        one.reap()
        gate.open()
    else:
        raise AssertionError(f"no process got the number {pid}")
    if contend:
        gate.open()
    try:
        yield one
    finally:
        one.kill()
        one.reap()
        if not contend:
            gate.open()


if __name__ == "__main__":
    raise SystemExit(apart.main({"race": race, "reuse": reuse, "same_process": same_process}))
