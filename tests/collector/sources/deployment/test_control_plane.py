"""The control plane of fog-compute: its list of deployments, page by page, with a token that nobody gets to see.

It is a server of our own that answers as backend/server/routes/deployment.py of fog-compute does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from collector.sources.deployment.control_plane import ControlPlaneProvider, parse_page, read_token
from collector.sources.deployment.provider import Deployment, ProviderError
from collector.sources.target import Limits
from shm.errors import ConfigurationError
from tests.collector import hostile
from tests.collector.served import served
from tests.collector.sources.deployment.test_providers import LIMITS


def row(number: int, name: str, running: object, **more: object) -> dict[str, Any]:
    """As fog-compute writes one."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "name": name,
        "status": "running",
        "target_replicas": 3,
        "running_replicas": running,
        "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z",
        **more,
    }


def body(*rows: object) -> bytes:
    return json.dumps(rows).encode()


def paged(rows: list[dict[str, Any]]) -> Callable[[str], bytes]:
    """Answers as the control plane does: ``limit`` of them from ``offset`` on."""

    def answer(target: str) -> bytes:
        query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
        begin, limit = int(query["offset"]), int(query["limit"])
        assert 1 <= limit <= 100  # more it answers with 422
        return hostile.http(body(*rows[begin : begin + limit]))

    return answer


def asked(answer: Callable[[str], bytes], token_file: str = "") -> list[Deployment]:
    with served(answer) as server:
        return ControlPlaneProvider(server.url, token_file, LIMITS).deployments()


def test_replicas_are_those_that_run_by_name() -> None:
    rows = [row(1, "web", 2), row(2, "db", 0, status="stopped")]
    assert asked(paged(rows)) == [Deployment("web", 2.0), Deployment("db", 0.0)]


def test_no_deployments_are_an_answer() -> None:
    assert asked(lambda _: hostile.http(b"[]")) == []


def test_those_that_share_a_name_are_added_up() -> None:
    rows = [row(1, "web", 2), row(2, "web", 3), row(3, "db", None), row(4, "db", 1), row(5, "db", None)]
    assert asked(paged(rows)) == [Deployment("web", 5.0), Deployment("db", 1.0)]


def test_one_without_name_goes_by_its_id_and_one_without_replicas_has_none() -> None:
    assert parse_page(body({"id": "a1", "name": "", "running_replicas": 1})) == [("a1", "a1", 1)]
    assert parse_page(body({"id": 17})) == [("17", "17", None)]
    assert parse_page(body({"name": "web", "running_replicas": None})) == [("web", "web", None)]


@pytest.mark.parametrize("many", [99, 100, 101, 250])
def test_all_pages_are_asked_for(many: int) -> None:
    rows = [row(n, f"d{n}", n) for n in range(many)]
    with served(paged(rows)) as server:
        found = ControlPlaneProvider(server.url, "", LIMITS).deployments()
        assert found == [Deployment(f"d{n}", float(n)) for n in range(many)]
        assert len(server.targets) == many // 100 + 1
        assert server.targets[0] == "/api/deployment/list?limit=100&offset=0&sort_by=created_at&sort_order=asc"


@pytest.mark.parametrize("many", [100, 300])
def test_a_server_that_knows_no_pages_is_not_asked_for_ever(many: int) -> None:
    rows = [row(n, f"d{n}", 1) for n in range(many)]
    with served(lambda _: hostile.http(body(*rows))) as server:
        assert len(ControlPlaneProvider(server.url, "", LIMITS).deployments()) == many
        assert len(server.targets) <= 2


def test_pages_without_end_are_refused_at_the_limit_of_deployments() -> None:
    def endless(target: str) -> bytes:
        begin = int(parse_qs(urlsplit(target).query)["offset"][0])
        return hostile.http(body(*({"id": str(begin + n), "running_replicas": 1} for n in range(100))))

    with pytest.raises(ProviderError, match="more than 10000 deployments"):
        asked(endless)


def test_all_pages_together_have_the_time_of_one_answer() -> None:
    now = 0.0

    def slow(target: str) -> bytes:
        nonlocal now
        now += 0.6
        begin = int(parse_qs(urlsplit(target).query)["offset"][0])
        return hostile.http(body(*(row(begin + n, "web", 1) for n in range(100))))

    with served(slow) as server:
        provider = ControlPlaneProvider(server.url, "", Limits(1.0, 1_000_000, ""), lambda: now)
        with pytest.raises(ProviderError, match="more than 1 s for all of its pages"):
            provider.deployments()
        assert len(server.targets) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b'["web"]', "it has 'web'"),
        (b"[{}]", "lacks id and name"),
        (b'[{"id": null, "name": ""}]', "lacks id and name"),
        (b'[{"id": 1, "name": ["web"]}]', "lacks id and name"),
        (b'[{"id": [], "name": "web"}]', "lacks id and name"),
        (b'[{"id": true}]', "lacks id and name"),
        (b'[{"name": "web", "running_replicas": -1}]', "running_replicas is -1"),
        (b'[{"name": "web", "running_replicas": "2"}]', "running_replicas is '2'"),
        (b'[{"name": "web", "running_replicas": 1.5}]', "running_replicas is 1.5"),
        (b'[{"name": "web", "running_replicas": true}]', "running_replicas is True"),
        (b'[{"name": "web", "running_replicas": 18446744073709551616}]', "running_replicas is 18446744073709551616"),
    ],
)
def test_an_answer_that_is_no_list_of_deployments_is_an_error(answer: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_page(answer)


# ---- the token ---------------------------------------------------------------------------------------------


def test_the_token_is_sent_and_a_new_one_is_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with served(paged([])) as server:
        provider = ControlPlaneProvider(server.url, str(file), LIMITS)
        for token in ("first.one", "s3cond-"):
            file.write_text(f"{token}\n")
            provider.deployments()
            assert server.requests[-1].headers["Authorization"] == f"Bearer {token}"
    with served(paged([])) as server:
        ControlPlaneProvider(server.url, "", LIMITS).deployments()
        assert "Authorization" not in server.requests[-1].headers


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty; write the token"),
        (b" \n", "is empty; write the token"),
        (b"two words", "is not a token"),
        (b"s3cret\r\nX-Evil: 1", "is not a token"),
        (b"s3cret\x00", "is not a token"),
        ("s3crét".encode(), "is not a token"),
        (b"x" * 16_385, "at most 16384 bytes"),
    ],
)
def test_a_file_without_a_token_is_an_error_that_names_key_and_file(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ProviderError, match=reason) as caught:
        read_token(str(file))
    assert "[source.deployment] control_plane_token_file" in str(caught.value)
    assert str(file) in str(caught.value)
    assert "s3cr" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_a_token_of_the_longest_length_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 16_384)
    assert read_token(str(tmp_path / "token")) == "x" * 16_384


def test_a_file_that_can_not_be_read_is_an_error_that_names_key_and_file_and_leaves_no_descriptor(
    tmp_path: Path,
) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path, why in ((tmp_path / "none", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(ProviderError, match=rf"control_plane_token_file: .*{path} can't be read: {why}"):
            read_token(str(path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pipe_in_the_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ProviderError, match="is empty"):
        read_token(str(tmp_path / "pipe"))


def test_a_token_that_is_refused_is_an_error_that_names_its_key_and_not_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret")
    with pytest.raises(ProviderError, match=r"refused.*HTTP 401.*control_plane_token_file") as caught:
        asked(lambda _: hostile.http(b"s3cret", "401 Unauthorized"), str(tmp_path / "token"))
    assert "s3cret" not in str(caught.value)


def test_an_address_with_a_query_is_refused() -> None:
    for url in ("http://host/?a=1", "http://host/#a"):
        with pytest.raises(ConfigurationError, match=r"control_plane_url.*without \? and #"):
            ControlPlaneProvider(url, "", LIMITS)
