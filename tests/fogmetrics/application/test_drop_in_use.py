"""What applications do with prometheus_client beside counting, under the drop-in: each in a process of its own."""

from __future__ import annotations

import pytest

from tests.application import DROP_IN, Process, merged


def test_metrics_move_with_their_values(namespace: str) -> None:
    with Process(namespace, "import prometheus_client as p; from prometheus_client import registry") as process:
        process.do("own = registry.CollectorRegistry()")
        process.do("h = p.Histogram('h', 'H.', ['a'], buckets=(1, 2), registry=own); h.labels('x').observe(1.5)")
        process.do("s = p.Summary('s', 'S.'); s.observe(3); c = p.Counter('c', 'C.'); c.inc(2)")
        process.do("other = p.Counter('c', 'C.', registry=own); other.inc(3)")
        process.do(
            "g = p.Gauge('g', 'G.', multiprocess_mode='max'); g.set(7); i = p.Info('i', 'I.'); i.info({'v': '1'})"
        )
        process.do("e = p.Enum('e', 'E.', states=['up', 'down'], registry=own); e.state('down')")
        process.do("from fogmetrics import drop_in; drop_in.install('web', registries=[own])")
        process.do("h.labels('x').observe(0.5); s.observe(1); c.inc()")
        found = merged(namespace)
        assert found.pop("h{x}")[1:] == [1.0, 2.0, 2.0, 2.0]
        assert found.pop("s{}") == [2.0, 4.0]
        assert found == {"c_total{}": [6.0], "g{}": [7.0], "i_info{1}": [1.0], "e{up}": [0.0], "e{down}": [1.0]}
        assert process.do("p.generate_latest(own).decode().count('h_count{a=\"x\"} 2.0')") == "1"


def test_methods_kept_from_before_go_on_to_count(namespace: str) -> None:
    with Process(namespace, "import prometheus_client as p") as process:
        process.do("c = p.Counter('c', 'C.'); g = p.Gauge('g', 'G.', multiprocess_mode='livesum')")
        process.do("h = p.Histogram('h', 'H.', buckets=(1, 2)); s = p.Summary('s', 'S.')")
        process.do("inc, set, observe, sum = c.inc, g.set, h.observe, s.observe")
        process.do(DROP_IN)
        process.do("inc(2); set(7); observe(1.5); sum(4)")
        found = merged(namespace)
        assert (found["c_total{}"], found["g{}"], found["s{}"]) == ([2.0], [7.0], [1.0, 4.0])
        assert found["h{}"][1:] == [0.0, 1.0, 1.0, 1.5]


def test_timers_and_decorators_count(namespace: str, process: Process) -> None:
    process.do("h = p.Histogram('h', 'H.', ['a']); s = p.Summary('s', 'S.'); c = p.Counter('c', 'C.')")
    process.do("g = p.Gauge('g', 'G.', multiprocess_mode='livesum'); inside = []")
    process.do(
        "@h.labels('x').time()\n@s.time()\n@g.track_inprogress()\n@c.count_exceptions(KeyError)\n"
        "def work(n):\n inside.append(g._value.get())\n return {1: 1}[n]"
    )
    process.do("for n in (1, 2, 1):\n try: work(n)\n except KeyError: pass")
    process.do("with s.time() as t: pass")
    assert process.do("inside") == "[1.0, 1.0, 1.0]"
    found = merged(namespace)
    assert (found["h{x}"][-2], found["s{}"][0], found["c_total{}"], found["g{}"]) == (3.0, 4.0, [1.0], [0.0])


def test_subclasses_and_names_with_a_prefix_count(namespace: str, process: Process) -> None:
    process.do("class Loud(p.Counter):\n def inc(self, amount=1, **more):\n  super().inc(2 * amount, **more)")
    process.do("class Sized(p.Histogram):\n def observe(self, amount):\n  super().observe(len(amount))")
    process.do("l = Loud('l', 'L.', ['a'], namespace='n', subsystem='s', unit='bytes'); l.labels('x').inc(3)")
    process.do("z = Sized('z', 'Z.', buckets=(2, 4)); z.observe('abc')")
    assert merged(namespace) == {
        "n_s_l_bytes_total{x}": [6.0],
        "z{}": [pytest.approx(float("nan"), nan_ok=True), 0.0, 1.0, 1.0, 3.0],
    }


def test_misuse_is_told_as_the_library_does(namespace: str, process: Process) -> None:
    process.do("c = p.Counter('c', 'C.', ['a']); g = p.Gauge('g', 'G.', multiprocess_mode='mostrecent')")
    process.do("h = p.Histogram('h', 'H.', ['a']); s = p.Summary('s', 'S.', ['a'])")
    process.do("def said(f, *a, **k):\n try: f(*a, **k)\n except Exception as error: return type(error).__name__")
    for call, error in (
        ("c.inc", "ValueError"), ("c.labels('x').inc, -1", "ValueError"), ("c.labels('x').inc, '1'", "TypeError"),
        ("c.labels('x').inc, 1, {'a' * 200: 'b'}", "ValueError"), ("g.inc", "RuntimeError"),
        ("h.observe, 1", "ValueError"), ("s.observe, 1", "ValueError"), ("c.labels, 'a', 'b'", "ValueError"),
        ("c.labels, b='x'", "ValueError"), ("c.labels", "ValueError"), ("c.labels('x').labels, 'y'", "ValueError"),
        ("g.labels, 'x'", "ValueError"), ("h.labels('x').observe, '1'", "TypeError"),
    ):  # fmt: skip
        assert process.do(f"said({call})") == repr(error), call
    found = merged(namespace)
    assert found["c_total{x}"] == [1.0]  # by the one whose exemplar is refused, as with the library
    assert found["h{x}"][-2:] == [0.0, 0.0]


def test_labels_are_what_str_makes_of_them(namespace: str, process: Process) -> None:
    process.do("import enum\nclass E(str, enum.Enum):\n A = 'a'\n def __str__(self): return 'written'")
    process.do("c = p.Counter('c', 'C.', ['l', 'm'])")
    process.do("def count(value): c.labels(value, 'x').inc(); c.labels(m='x', l=value).inc()")
    process.do("for value in ('a', E.A, 1, True) * 2: count(value)")
    assert merged(namespace) == {f"c_total{{{value},x}}": [4.0] for value in ("a", "written", "1", "True")}


def test_what_can_t_be_encoded_does_not_end_the_program(namespace: str, process: Process) -> None:
    process.do("c = p.Counter('c', 'C.', ['a']); c.labels(chr(0xdcff)).inc(); c.labels('x' * 100_000).inc()")
    process.do("c.labels('x').inc(); d = p.Counter('d', 'D' + chr(0xdcff)); d.inc()")
    process.do("i = p.Info('i', 'I.'); i.info({'a': chr(0xdcff)})")
    assert merged(namespace)["c_total{x}"] == [1.0]


def test_bounds_and_a_help_that_make_no_sense_do_not_end_the_program(namespace: str, process: Process) -> None:
    process.do("hs = [p.Histogram(f'h{b}', 'H.', buckets=(1, float(b))) for b in ('1', 'nan', 'inf')]")
    process.do("hs.append(p.Histogram('low', 'H.', buckets=(float('-inf'), 1)))")
    process.do("for h in hs: h.observe(1)")
    process.do("c = p.Counter('c', None, registry=None); c.inc()")
    assert set(merged(namespace)) == {"hinf{}", "c_total{}"}


def test_what_is_no_number_is_left_out_of_summaries_and_histograms(namespace: str, process: Process) -> None:
    process.do("s = p.Summary('s', 'S.'); h = p.Histogram('h', 'H.', buckets=(1, 2))")
    process.do("for one in (s, h): one.observe(float('nan')); one.observe(1.5)")
    found = merged(namespace)
    assert found["s{}"] == [1.0, 1.5]
    assert found["h{}"][1:] == [0.0, 1.0, 1.0, 1.5]


def test_exact_amounts_of_other_types_count(namespace: str, process: Process) -> None:
    process.do("import fractions, numpy; c = p.Counter('c', 'C.'); g = p.Gauge('g', 'G.', multiprocess_mode='max')")
    process.do("c.inc(True); c.inc(fractions.Fraction(1, 2)); c.inc(numpy.float64(2)); c.inc(numpy.int32(4))")
    process.do("g.set(fractions.Fraction(1, 4)); g.inc(numpy.float32(2)); g.dec(1)")
    found = merged(namespace)
    assert (found["c_total{}"], found["g{}"]) == ([7.5], [1.25])


# The handler of many an application: its records by level, counted.
COUNTING_HANDLER = """\
import logging
records = p.Counter("records", "Records.", ["level"])
class Counting(logging.Handler):
    def emit(self, record):
        records.labels(record.levelname).inc()
logging.getLogger().addHandler(Counting())
"""


def test_a_log_that_counts_its_records_may_be_what_the_table_has_no_room_for(process: Process) -> None:
    process.do(COUNTING_HANDLER)
    process.do("drop_in._installed.table.max_series = 0")
    process.do("logging.warning('one')")
    assert process.do("records.labels('WARNING')._value.get() >= 1") == "True"


def test_no_lock_is_held_while_the_log_is_told(process: Process) -> None:
    process.do("import logging; c = p.Counter('c', 'C.', ['a']); c.labels('x'); free = []")
    process.do(
        "class Asking(logging.Handler):\n"
        " def emit(self, record):\n"
        "  def ask(): c.labels('x').inc(); c.labels(str(len(free)))\n"
        "  thread = threading.Thread(target=ask, daemon=True); thread.start(); thread.join(5)\n"
        "  free.append(not thread.is_alive())"
    )
    process.do("logging.getLogger().addHandler(Asking()); drop_in._installed.table.max_series = 1")
    process.do("c.labels('y')")
    process.do("e = p.Enum('e', 'E.', ['a'], states=['up', 'down']); e.labels('y')")
    assert process.do("free") == "[True, True]"


def test_a_fork_beside_threads_that_make_series_can_make_its_own(namespace: str, process: Process) -> None:
    process.do("c = p.Counter('c', 'C.', ['a']); over = threading.Event()")
    process.do("def make(t):\n for n in range(2000):\n  if over.is_set(): return\n  c.labels(f'{t}-{n}').inc()")
    process.do("threads = [threading.Thread(target=make, args=(t,)) for t in range(2)]; [t.start() for t in threads]")
    process.do(
        "def job():\n"
        " signal.alarm(20)\n"  # one that waits for ever ends
        " for n in range(30): c.labels(f'own-{n}').inc()\n"
    )
    process.do("for _ in range(20): forked(job)")
    process.do("over.set(); [t.join() for t in threads]")
    found = merged(namespace)
    assert {found[f"c_total{{own-{n}}}"][0] for n in range(30)} == {20.0}
    made = process.do("{k: v._value.get() for k, v in c._metrics.items()}")
    assert {f"c_total{{{key[0]}}}": [value] for key, value in eval(made).items()} == {
        key: value for key, value in found.items() if "own" not in key
    }


def test_who_still_has_a_removed_child_counts_on_in_a_fork(process: Process) -> None:
    process.do("c = p.Counter('c', 'C.', ['a']); held = c.labels('x'); c.remove('x'); go = threading.Event()")
    process.do("had = threading.Event()\ndef hold():\n with drop_in._installed.table.lock: had.set(); go.wait(30)")
    process.do("threading.Thread(target=hold).start(); had.wait(30)")
    process.do("pid = os.fork()\nif not pid:\n signal.alarm(10); held.inc(); held._value.get(); os._exit(7)")
    assert process.do("os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])") == "7"
    process.do("go.set()")


def test_what_a_killed_worker_left_goes_when_the_next_one_counts(namespace: str, process: Process) -> None:
    process.do("c = p.Counter('c', 'C.')")
    process.do("for _ in range(20): forked(lambda: (c.inc(), os.kill(os.getpid(), 9)))")
    assert merged(namespace) == {"c_total{}": [20.0]}
    assert int(process.do(f"len(glob.glob('/dev/shm/fogmetrics.{namespace}.*.table'))")) <= 3


def test_a_signal_s_handler_may_count_and_make_series(namespace: str, process: Process) -> None:
    process.do("c = p.Counter('c', 'C.', ['a']); x = c.labels('x'); h = p.Counter('h', 'H.', ['n'])")
    process.do("told = [0]\ndef tell(*_):\n told[0] += 1; x.inc(); h.labels(str(told[0] % 50)).inc()")
    process.do("signal.signal(signal.SIGALRM, tell); signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)")
    process.do("for n in range(4000):\n c.labels(str(n)).inc(); x.inc()")
    process.do("signal.setitimer(signal.ITIMER_REAL, 0)")
    told = int(process.do("told[0]"))
    found = merged(namespace)
    assert found["c_total{x}"] == [4000.0 + told]
    assert sum(value for key, [value] in found.items() if key.startswith("h")) == told
    assert sum(value for key, [value] in found.items() if key.startswith("c")) == 8000.0 + told


def test_a_fork_of_a_fork_that_stored_nothing_counts_in_every_series(namespace: str, process: Process) -> None:
    """In more of them than its first table has room for."""
    process.do("all = [p.Counter(f'c{n}', 'C.') for n in range(200)]")
    process.do("def count():\n for c in all: c.inc(); c.inc()")
    process.do("forked(lambda: forked(count))")
    assert merged(namespace) == {f"c{n}_total{{}}": [2.0] for n in range(200)}
    process.do("forked(lambda: (all[0].inc(), forked(count)))")
    assert merged(namespace) == {f"c{n}_total{{}}": [5.0 if n == 0 else 4.0] for n in range(200)}


def test_a_child_that_is_made_while_it_is_removed_counts(namespace: str, process: Process) -> None:
    process.do("c = p.Counter('c', 'C.', ['a']); c.labels('x').inc(7); table = drop_in._installed.table")
    process.do("remove = table.remove; other = threading.Thread(target=lambda: c.labels('x').inc())")
    process.do("def slowly(keys):\n other.start(); other.join(0.3); remove(keys)")
    process.do("table.remove = slowly; c.remove('x'); table.remove = remove; other.join(30)")
    process.do("c.labels('x').inc()")
    assert merged(namespace) == {"c_total{x}": [2.0]}


def test_names_that_were_imported_before_it_was_installed_go_on_to_work(namespace: str) -> None:
    early = "from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead"
    with Process(namespace, f"{early}\n{DROP_IN}from prometheus_client import multiprocess") as process:
        process.do("c = p.Counter('c', 'C.'); c.inc()")
        process.do("pid = os.fork()\nif not pid: c.inc(); os.kill(os.getpid(), 9)\nos.waitpid(pid, 0)")
        left = f"sum(f'.{{pid}}-' in name for name in glob.glob('/dev/shm/fogmetrics.{namespace}.*'))"
        assert process.do(f"mark_process_dead(pid) or {left}") == "1"  # to be folded by the next process
        assert process.do(f"multiprocess.mark_process_dead(pid) or {left}") == "0"
        process.do("registry = p.CollectorRegistry(); MultiProcessCollector(registry)")
        assert process.do("[one.value for family in registry.collect() for one in family.samples]") == "[2.0]"


def test_clear_takes_the_metric_and_no_other_of_a_like_name(namespace: str, process: Process) -> None:
    process.do("plain = p.Counter('plain', 'P.'); jobs = p.Gauge('jobs', 'J.', ['q'], multiprocess_mode='max')")
    process.do("total = p.Gauge('jobs_total', 'J.', multiprocess_mode='max'); c = p.Counter('c', 'C.', ['a'])")
    process.do("i = p.Info('i', 'I.', ['a']); i.labels('a').info({'v': '1'})")
    process.do("forked(lambda: (plain.inc(7), jobs.labels('a').set(1), total.set(5), c.labels('a').inc()))")
    assert set(merged(namespace)) == {"plain_total{}", "jobs{a}", "jobs_total{}", "c_total{a}", "i_info{a,1}"}
    process.do("plain.clear(); jobs.clear(); c.clear(); i.clear()")
    assert merged(namespace) == {"plain_total{}": [7.0], "jobs_total{}": [5.0]}


def test_a_handler_may_make_the_very_series_that_is_being_made(namespace: str, process: Process) -> None:
    process.do("import sys; code = type(drop_in._installed).value.__code__; told = []")
    process.do("c = p.Counter('c', 'C.', ['a']); g = p.Gauge('g', 'G.', ['a'], multiprocess_mode='sum')")
    process.do("signal.signal(signal.SIGUSR1, lambda *_: (c.labels('x').inc(5), g.labels('x').inc(5)))")
    process.do(
        "def trace(frame, event, argument):\n"
        " if frame.f_code is code and not told: told.append(1); signal.raise_signal(signal.SIGUSR1)"
    )
    process.do("sys.settrace(trace); c.labels('x').inc(1); sys.settrace(None)")
    assert merged(namespace) == {"c_total{x}": [6.0], "g{x}": [5.0]}
    process.do("told.clear(); c.labels('y'); g.clear()")
    process.do("sys.settrace(trace); g.labels('x').inc(1); sys.settrace(None)")
    assert merged(namespace)["g{x}"] == [6.0]


def test_a_function_of_the_library_that_somebody_wrapped_is_exchanged_as_a_whole(namespace: str) -> None:
    wrapped = (
        "import functools; from prometheus_client import multiprocess as m; "
        "m.mark_process_dead = functools.partial(m.mark_process_dead)"
    )
    with Process(namespace, f"{wrapped}\n{DROP_IN}") as process:
        process.do("c = p.Counter('c', 'C.'); pid = os.fork()\nif not pid: c.inc(); os.kill(os.getpid(), 9)")
        process.do("os.waitpid(pid, 0); m.mark_process_dead(pid)")
        process.do(f"names = '/dev/shm/fogmetrics.{namespace}.*'")
        assert process.do("[name for name in glob.glob(names) if f'.{pid}-' in name]") == "[]"
        assert merged(namespace) == {"c_total{}": [1.0]}
