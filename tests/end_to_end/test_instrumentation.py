"""Libraries that instrument web frameworks and choose their mode by PROMETHEUS_MULTIPROC_DIR, with the drop-in."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from tests.daemon import ROOT
from tests.exporter.scene import page_of
from tests.programs import find_program, free_port, listens, running
from tests.rings import files_of
from tests.shop import CONF, get, samples_of

pytestmark = pytest.mark.real

# By library: the application, the server, and the requests that it counts.
LIBRARIES = {
    "prometheus_flask_exporter": ("flask_exporter", "gunicorn", "flask_http_request_total", 'status="200"'),
    "django_prometheus": (
        "django_views", "gunicorn", "django_http_requests_total_by_view_transport_method_total", 'view="answer"',
    ),
    "prometheus_fastapi_instrumentator": ("fastapi_instrumentator", "uvicorn", "http_requests_total", 'handler="/"'),
    "starlette_exporter": ("starlette_middleware", "uvicorn", "starlette_requests_total", 'path="/"'),
}  # fmt: skip
_REQUESTS = 60


def command(server: str, port: int) -> list[str | Path]:
    where: list[str | Path] = (
        ["--config", CONF / "gunicorn.conf.py", "--bind", f"127.0.0.1:{port}"]
        if server == "gunicorn"
        else ["--host", "127.0.0.1", "--port", str(port)]
    )
    return [find_program(server), *where, "--workers", "2"]


def count(page: str, name: str, label: str) -> float:
    return sum(value for (one, labels), value in samples_of(page).items() if one == name and label in labels)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_library_s_own_page_and_the_exporter_s_have_the_requests_of_all_workers(
    namespace: str, tmp_path: Path, library: str
) -> None:
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed: pip install 'fogmetrics[libraries]'")
    module, server, *series = LIBRARIES[library]
    directory, port = tmp_path / "multiproc", free_port()
    directory.mkdir()
    environ = {
        "PYTHONPATH": str(ROOT), "FOGMETRICS_NAMESPACE": namespace, "PROMETHEUS_MULTIPROC_DIR": str(directory),
    }  # fmt: skip
    application = f"tests.stand_ins.instrumented.{module}:app"
    with running([*command(server, port), application], tmp_path / "log", env=environ, cwd=ROOT) as program:
        program.wait_until(lambda: listens(port), 30, f"{server} listening")
        for _ in range(_REQUESTS):
            assert b"answered" in get(port, "/")
        assert len([path for path in files_of(namespace) if path.suffix == ".table"]) >= 2
        for _ in range(10):
            assert count(get(port, "/metrics").decode(), *series) == _REQUESTS
        assert count(page_of(namespace), *series) == _REQUESTS
    assert list(directory.iterdir()) == [], "the drop-in replaces the files"
