"""The drop-in, in processes of their own, side by side with prometheus_client's multiprocess mode."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporter.http.negotiation import Format
from tests.application import DROP_IN, ROOT, Process, merged
from tests.exporter.scene import page_of
from tests.programs import promtool_says

# The application: unchanged in both runs. It forks three workers, tells its page, kills them, tells it again.
_APPLICATION = """\
import os, signal, sys, time
{first}
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client import generate_latest, multiprocess
modes = ("all", "liveall", "min", "livemin", "max", "livemax", "sum", "livesum", "mostrecent", "livemostrecent")
requests = Counter("requests_total", "Requests.", ["path"])
size = Counter("size", "Size.", unit="bytes")
latency = Histogram("latency_seconds", "Time.", ["path"], buckets=(0.1, 0.5, 2.5))
plain = Histogram("plain", "Default buckets.")
summary = Summary("payload", "Payload.", ["path"])
gauges = {{mode: Gauge(f"g_{{mode}}", "G.", ["l"], multiprocess_mode=mode) for mode in modes}}
requests.labels("before").inc(5)
{late}
def work(number):
    for _ in range(100):
        requests.labels("/").inc()
        requests.labels(path=str(number)).inc(0.5)
    size.inc(3)
    with latency.labels("/").time():
        pass
    latency.labels("/").observe(0.3 + number)
    plain.observe(number)
    summary.labels("/").observe(number)
    for gauge in gauges.values():
        gauge.labels("x").set(10 + number)
        if "recent" not in gauge._multiprocess_mode:
            gauge.labels("x").dec(1)
            gauge.labels("x").inc(3)
def page():
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    text = generate_latest(registry).decode()
    for at, pid in enumerate([os.getpid(), *pids]):
        text = text.replace(f'pid="{{pid}}"', f'pid="P{{at}}"')
    print("\\n".join(sorted(text.split("\\n"))))
pids = []
for number in range(3):
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        work(number)
        os.write(write, b"x")
        time.sleep(60)
        os._exit(0)
    os.read(read, 1)
    pids.append(pid)
page()
print("---")
for pid in pids:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    multiprocess.mark_process_dead(pid)
page()
"""


def pages(tmp_path: Path, first: str, late: str = "", **environ: str) -> list[list[str]]:
    """The application's two pages, as sorted lines, without times."""
    script = tmp_path / "application.py"
    script.write_text(_APPLICATION.format(first=first, late=late))
    run = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(ROOT), **environ}, cwd=ROOT, timeout=60,
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    text = re.sub(r"(latency_seconds_sum\S*|latency_seconds_sum{.*}) \S+", r"\1 T", run.stdout)
    return [page.strip("\n").split("\n") for page in text.split("---\n")]


def of_the_dead(lines: list[str]) -> list[str]:
    """Without what the original shows of the dead, and ours does not, on purpose."""
    return [line for line in lines if not re.match(r'g_all{.*pid="P[123]"|g_sum{', line) and "g_sum" not in line]


@pytest.mark.parametrize("variable", [False, True], ids=["without the variable", "with it"])
@pytest.mark.parametrize("late", [False, True])
def test_an_application_has_the_same_page_as_with_the_original(
    namespace: str, tmp_path: Path, late: bool, variable: bool
) -> None:
    directory = tmp_path / "original"
    directory.mkdir()
    original = pages(tmp_path, "", PROMETHEUS_MULTIPROC_DIR=str(directory))
    install = "from fogmetrics import drop_in; drop_in.install('web')"
    environ = {"FOGMETRICS_NAMESPACE": namespace}
    if variable:
        environ["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path / "replaced")
        (tmp_path / "replaced").mkdir()
    ours = pages(tmp_path, *(("", install) if late else (install, "")), **environ)
    assert len(original[0]) > 60
    assert ours[0] == original[0]
    assert of_the_dead(ours[1]) == [
        line for line in of_the_dead(original[1]) if not (line.startswith("# ") and " g_all " in line)
    ]
    # The original goes on to show processes that are no more.
    assert 'g_all{l="x",pid="P2"} 13.0' in original[1]
    assert not any(line.startswith(("g_all", "g_sum")) for line in ours[1])
    assert len(list(directory.iterdir())) > 5
    if variable and not late:
        assert list((tmp_path / "replaced").iterdir()) == []
    assert set(merged(namespace)) >= {"requests_total{/}", "requests_total{before}", "size_bytes_total{}"}


@pytest.fixture
def two(namespace: str) -> tuple[Process, Process]:
    return Process(namespace, DROP_IN), Process(namespace, DROP_IN)


def test_remove_and_clear_take_the_series_from_all_processes(namespace: str, two: tuple[Process, Process]) -> None:
    with two[0] as one, two[1] as other:
        for process in two:
            process.do("c = p.Counter('c', 'C.', ['a', 'b']); h = p.Histogram('h', 'H.', ['a'], buckets=(1,))")
            process.do("for a in 'xyz': c.labels(a, '1').inc(); c.labels(a, '2').inc(); h.labels(a).observe(0.5)")
        one.do("c.remove('x', '1')")
        assert "c_total{x,1}" not in merged(namespace)
        assert merged(namespace)["c_total{x,2}"] == [2.0]
        other.do("c.labels('x', '1').inc(4)")
        assert merged(namespace)["c_total{x,1}"] == [4.0]
        if one.do("hasattr(c, 'remove_by_labels')") == "True":
            one.do("c.remove_by_labels({'a': 'y'})")
            assert {key for key in merged(namespace) if "{y" in key} == {"h{y}"}
        one.do("held = c.labels('z', '1')")
        one.do("c.clear()")
        assert {key for key in merged(namespace) if key.startswith("c_")} == set()
        one.do("held.inc()")
        assert "c_total{z,1}" not in merged(namespace)
        one.do("h.remove('x'); h.remove('y'); h.remove('z')")
        assert merged(namespace) == {}
        other.do("h.labels('x').observe(0.5)")
        assert merged(namespace)["h{x}"][1:] == [1.0, 1.0, 0.5]


def test_what_is_removed_is_not_said_to_stay(namespace: str, tmp_path: Path) -> None:
    with Process(namespace, DROP_IN, {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONWARNINGS": "error"}) as process:
        process.do("c = p.Counter('c', 'C.', ['a']); c.labels('x').inc(); c.labels('y').inc(); c.labels('z').inc()")
        process.do("c.remove('x')")
        assert set(merged(namespace)) == {"c_total{y}", "c_total{z}"}
        process.do("c.clear()")
        assert merged(namespace) == {}


def test_removing_the_last_child_here_leaves_the_others_elsewhere(namespace: str, two: tuple[Process, Process]) -> None:
    with two[0] as one, two[1] as other:
        for process, label in zip(two, "ab", strict=True):
            process.do(f"c = p.Counter('c', 'C.', ['l']); c.labels({label!r}).inc()")
        one.do("c.remove('a')")
        assert merged(namespace) == {"c_total{b}": [1.0]}
        other.do("c.clear()")
        assert merged(namespace) == {}


def test_info_and_enum_are_shown(namespace: str, two: tuple[Process, Process]) -> None:
    with two[0] as one, two[1] as other:
        for process in two:
            process.do("i = p.Info('build', 'B.'); e = p.Enum('state', 'S.', ['l'], states=['up', 'down'])")
            process.do("i.info({'version': '1'})")
        assert merged(namespace) == {"build_info{1}": [1.0]}
        one.do("e.labels('x').state('down')")
        assert merged(namespace)["state{x,up}"] == [0.0]
        assert merged(namespace)["state{x,down}"] == [1.0]
        other.do("e.labels('x')")  # begins as 'up', and nobody has set that
        assert merged(namespace)["state{x,down}"] == [1.0]
        other.do("e.labels('x').state('up')")
        assert merged(namespace)["state{x,down}"] == [0.0]
        one.do("i.info({'version': '2'})")
        assert {key for key in merged(namespace) if "build" in key} == {"build_info{1}", "build_info{2}"}
        other.kill()
        assert {key for key in merged(namespace) if "build" in key} == {"build_info{2}"}
        assert one.do("i._child_samples()[0].labels") == repr({"version": "2"})
        assert one.do("p.generate_latest().decode().count('state{')") == "2"


def test_what_a_table_can_t_have_stays_in_the_process_and_the_log_says_so(namespace: str, process: Process) -> None:
    process.do(
        "import logging; seen = []; logging.getLogger('shm.table.process').warning = lambda *a, **k: seen.append(k)"
    )
    process.do("c = p.Counter('c', 'C.', ['stat']); c.labels('x').inc(2)")
    process.do("h = p.Histogram('h', 'H.', buckets=range(100)); h.observe(3)")
    process.do("i = p.Info('i', 'I.'); i.info({'a': '1'}); i.info({'b': '1'})")
    assert process.do("[one['extra']['metric'] for one in seen]") == "['c_total', 'h', 'i_info']"
    assert "reserved" in process.do("seen[0]['extra']['error']")
    assert process.do("c.labels('x')._value.get(), h._sum.get()") == "(2.0, 3.0)"
    assert merged(namespace) == {}


def test_names_beyond_the_classic_characters_are_kept_and_escaped_as_on_the_library_s_pages(
    namespace: str, two: tuple[Process, Process]
) -> None:
    with two[0] as one, two[1]:
        one.do("p.Counter('my.x', 'M.')")
        for process in two:
            process.do("c = p.Counter('http.requests', 'C.', ['http.method', 'éa']); c.labels('GET', 'b').inc(2)")
            process.do("g = p.Gauge('1º', 'G.', multiprocess_mode='sum'); g.set(3)")
            process.do("h = p.Histogram('h.h', 'H.', ['l.l'], buckets=(1,)); h.labels('x').observe(0.5)")
            process.do("e = p.Enum('a:b', 'E.', states=['up']); e.state('up')")
        found = merged(namespace)
        assert found.pop("h.h{x}")[1:] == [2.0, 2.0, 1.0]
        assert found == {
            "my.x_total{}": [0.0], "http.requests_total{GET,b}": [4.0], "1º{}": [6.0], "a:b{up}": [1.0],
        }  # fmt: skip
        page = page_of(namespace)
        assert 'http_requests_total{application="web",http_method="GET",_a="b"} 4.0' in page
        assert 'a:b{application="web",a_b="up"} 1.0' in page
        one.do("c.clear(); h.remove('x'); g.set_function(lambda: 5)")
        assert merged(namespace) == {"my.x_total{}": [0.0], "1º{}": [3.0], "a:b{up}": [1.0]}


def test_two_names_that_are_one_with_underscores_are_kept_apart(namespace: str, process: Process) -> None:
    process.do("one, other = [p.Counter(name, 'C.', ['l'], registry=None) for name in ('c.x', 'c_x')]")
    process.do("one.labels('a').inc(5); other.labels('a').inc(100)")
    found = merged(namespace)
    assert (found["c.x_total{a}"], found["c_x_total{a}"]) == ([5.0], [100.0])
    process.do("other.clear()")
    assert "c_x_total{a}" not in (left := merged(namespace))
    assert left["c.x_total{a}"] == [5.0]


def test_one_name_in_two_registries_is_one_metric_whatever_its_help(namespace: str, process: Process) -> None:
    process.do("one, other = p.CollectorRegistry(), p.CollectorRegistry()")
    process.do("p.Counter('c', 'One.', ['l'], registry=one).labels('x').inc(1)")
    process.do("p.Counter('c', 'Other.', ['l'], registry=other).labels('x').inc(2)")
    process.do("h = [p.Histogram('h', help, registry=None, buckets=(1,)) for help in 'ab']; [o.observe(2) for o in h]")
    found = merged(namespace)
    assert found["c_total{x}"] == [3.0]
    assert found["h{}"][1:] == [0.0, 2.0, 4.0]
    assert "# HELP c_total One.\n" in page_of(namespace)


def test_the_log_names_a_remedy_for_the_fault_that_it_names(namespace: str, process: Process) -> None:
    process.do(
        "import logging; seen = []; logging.getLogger('shm.table.process').warning = lambda *a, **k: seen.append(a)"
    )
    process.do("p.Counter('c', 'C.', ['a'], registry=None).labels('x'); p.Counter('c', 'C.', registry=None)")
    process.do("p.Gauge('g', 'G.', ['stat']).labels('x')")
    assert process.do("[one[1].endswith('; rename one') for one in seen]") == "[True, False]"
    assert process.do("[one[1].endswith('; choose another') for one in seen]") == "[False, True]"


def test_metrics_are_read_back_in_their_own_process(process: Process) -> None:
    process.do("h = p.Histogram('h', 'H.', buckets=(1, 2)); s = p.Summary('s', 'S.'); g = p.Gauge('g', 'G.')")
    process.do("h.observe(1.5, {'trace': 'x'}); h.observe(math.nan); s.observe(4)")
    process.do("g.set_to_current_time(); g.set(7); g.inc(); g.dec(2)")
    process.do("t = p.generate_latest().decode()")
    for line in ('h_bucket{le="2.0"} 1.0', "h_count 1.0", "h_sum 1.5", "s_count 1.0", "s_sum 4.0", "g 6.0"):
        assert process.do(f"{line + chr(10)!r} in t") == "True", line
    process.do("c = p.Counter('c', 'C.'); c.inc(3); c.inc(exemplar={'a': 'b'})")
    assert process.do("c._value.get()") == "4.0"
    process.do("b = p.Gauge('b', 'B.')\nwith b.track_inprogress(): inside = b._value.get()")
    assert process.do("inside, b._value.get()") == "(1.0, 0.0)"
    process.do("f = p.Gauge('f', 'F.'); f.set_function(lambda: 9)")
    assert process.do("p.generate_latest().decode().count('f 9.0')") == "1"


@pytest.mark.parametrize("mode", ["all", "livesum", "max", "mostrecent"])
def test_a_gauge_with_a_function_is_absent_from_pages_and_the_log_says_so(
    namespace: str, process: Process, mode: str
) -> None:
    process.do("import logging; seen = []")
    process.do("logging.getLogger('shm.table.process').warning = lambda *a, **k: seen.append(k['extra'])")
    process.do(f"f = p.Gauge('f', 'F.', multiprocess_mode={mode!r}); f.set_function(lambda: 9)")
    process.do(f"g = p.Gauge('g', 'G.', ['l'], multiprocess_mode={mode!r}); g.labels('x').set_function(lambda: 9)")
    process.do("g.labels('y').set(3); f.set(4); forked(lambda: (f.set(5), g.labels('x').set(6)))")
    assert set(merged(namespace)) == {f"g{{y,{process.pid}}}" if mode == "all" else "g{y}"}
    assert process.do("[(one['metric'], one['error']) for one in seen][:1]") == repr(
        [("f", "only its own process can call its function; use set() instead")]
    )
    assert process.do("p.generate_latest().decode().count(' 9.0')") == "2"


def test_a_gauge_whose_function_was_set_before_is_absent_too(namespace: str) -> None:
    with Process(namespace, "import prometheus_client as p") as process:
        process.do("f = p.Gauge('f', 'F.'); f.set_function(lambda: 9)")
        process.do("g = p.Gauge('g', 'G.', ['l'], multiprocess_mode='sum'); g.labels('x').set_function(lambda: 9)")
        process.do("g.labels('y').set(3)")
        process.do(DROP_IN)
        assert merged(namespace) == {"g{y}": [3.0]}


def test_a_gauge_is_0_from_its_creation_and_has_no_value_in_a_fork_that_did_not_set_it(
    namespace: str, process: Process
) -> None:
    process.do("g = p.Gauge('g', 'G.'); c = p.Counter('c', 'C.')")
    assert merged(namespace) == {f"g{{{process.pid}}}": [0.0], "c_total{}": [0.0]}
    process.do("forked(lambda: c.inc(2))")
    assert merged(namespace) == {f"g{{{process.pid}}}": [0.0], "c_total{}": [2.0]}


@pytest.mark.parametrize(
    ("begin", "said"),
    [
        ("drop_in.install('web'); drop_in.install('api')", "already belong to the application 'web'"),
        ("drop_in.install('web'); drop_in.install('web', namespace='b')", "it can't have 'b' as well"),
        ("drop_in.install('web', max_series=3); drop_in.install('web', max_series=4)", "can't have 4 as well"),
        (
            "from fogmetrics import SharedCollector; SharedCollector('web', max_series=3); "
            "drop_in.install('web', max_series=4)",
            "can't have 4 as well",
        ),
        ("sys.modules['prometheus_client'] = None; drop_in.install('web')", "prometheus_client is not installed here"),
        ("drop_in.install('a.b')", "the name of an application is 'a.b'"),
    ],
)
def test_what_can_t_be_is_refused_with_a_remedy(namespace: str, begin: str, said: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"import os, sys; from fogmetrics import drop_in; {begin}"], cwd=ROOT, timeout=60,
        env={"FOGMETRICS_NAMESPACE": namespace}, capture_output=True, text=True,
    )  # fmt: skip
    assert run.returncode == 1
    assert said in run.stderr.strip().split("\n")[-1]
    again = Process(namespace, f"{DROP_IN}drop_in.install('web')")
    again.kill()


@pytest.mark.parametrize(
    ("begin", "environ", "said"),
    [
        ("resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))", {}, "MiB of shared memory"),
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))", {}, "Too many open files"),
        ("", {"FOGMETRICS_GROUP": "nosuch"}, "a group of this host"),
        ("", {"FOGMETRICS_NAMESPACE": "a.b"}, "namespace is 'a.b'"),
        ("drop_in.table_of = None", {}, "TypeError"),
    ],
)
def test_without_shared_memory_the_application_starts_as_without_the_drop_in_and_the_log_says_so_once(
    namespace: str, begin: str, environ: dict[str, str], said: str
) -> None:
    code = f"""
import resource, prometheus_client as p
from prometheus_client import values
before = p.Counter('before', 'B.'); before.inc(2)
from fogmetrics import drop_in
{begin}
drop_in.install('web')
assert values.ValueClass is values.MutexValue
c = p.Counter('c', 'C.', ['l']); c.labels('x').inc(3); before.inc()
print(p.generate_latest().decode().count('c_total{{l="x"}} 3.0'), before._value.get())
"""
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, timeout=60, env={"FOGMETRICS_NAMESPACE": namespace, **environ},
        capture_output=True, text=True,
    )  # fmt: skip
    assert run.stdout == "1 3.0\n", run.stderr
    [line] = [one for one in run.stderr.splitlines() if "not folded" not in one]  # which needs /dev/shm as well
    assert line.startswith(
        "the metrics of application 'web' are not exported by fogmetrics, and prometheus_client keeps"
    )
    assert said in line


@pytest.mark.real
def test_promtool_accepts_what_the_exporter_makes_of_it(namespace: str, process: Process) -> None:
    process.do("c = p.Counter('jobs', 'Jobs.', ['l']); c.labels('x').inc()")
    process.do("h = p.Histogram('job_seconds', 'Time.'); h.observe(0.2); s = p.Summary('job_bytes', 'Size.')")
    process.do("s.observe(3); i = p.Info('build', 'Build.'); i.info({'version': '1'})")
    process.do("e = p.Enum('job_state', 'State.', states=['up', 'down'])")
    page = page_of(namespace)
    assert promtool_says(page) == []
    assert '# TYPE job_bytes summary\njob_bytes_count{application="web"} 1.0\n' in page
    assert 'jobs_total{application="web",l="x"} 1.0\n' in page
    openmetrics = page_of(namespace, Format.OPENMETRICS) + "# EOF\n"
    families = {one.name: one for one in text_string_to_metric_families(openmetrics)}  # type: ignore[no-untyped-call]
    assert families["job_bytes"].type == "summary"
    assert families["job_seconds"].type == "histogram"
