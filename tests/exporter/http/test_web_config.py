"""Web configuration files: what is accepted, and what is said about the rest."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import bcrypt
import pytest

from exporter.http.web_config import WebFile
from shm.errors import ConfigurationError
from tests.exporter.certificates import Authority
from tests.programs import find_program

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an authority, and certificates of two servers."""
    directory = tmp_path_factory.mktemp("web")
    authority = Authority(directory)
    authority.certificate("server")
    authority.certificate("other")
    return directory


def web_file(directory: Path, text: str) -> WebFile:
    (directory / "web.yml").write_text(text)
    return WebFile(directory / "web.yml")


def test_an_empty_file_sets_nothing(directory: Path) -> None:
    web = web_file(directory, "# nothing\n").current()
    assert (web.tls, web.headers, web.passwords, web.limit, web.notes) == (None, (), None, None, ())


@pytest.mark.parametrize(
    "keys",
    [
        "",
        "  min_version: TLS13\n",
        "  max_version: TLS12\n",
        "  client_auth_type:\n",
        "  client_auth_type: NoClientCert\n",
        "  client_auth_type: VerifyClientCertIfGiven\n",
        "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n  client_allowed_sans: [a, b]\n",
        "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n",
        "  curve_preferences: [CurveP521]\n",
        "  curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]\n",
        "  cipher_suites:\n  - TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256\n  prefer_server_cipher_suites: no\n",
    ],
)
def test_tls_is_accepted(directory: Path, keys: str) -> None:
    assert web_file(directory, TLS + keys).current().tls is not None


def test_certificates_may_be_in_the_file_itself(directory: Path) -> None:
    def inline(name: str) -> str:
        return "".join(f"    {line}\n" for line in (directory / name).read_text().splitlines())

    text = (
        f"tls_server_config:\n  cert: |\n{inline('server.pem')}  key: |\n{inline('server.key')}"
        f"  client_auth_type: RequireAndVerifyClientCert\n  client_ca: |\n{inline('ca.pem')}"
    )
    assert web_file(directory, text).current().tls is not None


def test_authorities_may_have_names_in_any_language_beside_their_certificates(directory: Path) -> None:
    (directory / "named.pem").write_text(f"# Autorité\n{(directory / 'ca.pem').read_text()}")
    keys = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: named.pem\n"
    tls = web_file(directory, TLS + keys).current().tls
    assert tls is not None
    assert len(tls.context.get_ca_certs()) == 1


def test_headers_have_the_values_that_are_written(directory: Path) -> None:
    values = "X-Frame-Options: deny\n    X-XSS-Protection: 1\n    Strict-Transport-Security:\n"
    text = f"http_server_config:\n  headers:\n    {values}"
    assert web_file(directory, text).current().headers == ((b"x-frame-options", b"deny"), (b"x-xss-protection", b"1"))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("100ms", 0.1), ("1m30s", 90.0), ("1.5h", 5400.0), ("0", None), ("0s", None)],
)
def test_the_interval_of_the_rate_limit_is_a_duration_of_go(directory: Path, text: str, seconds: float | None) -> None:
    limit = web_file(directory, f"rate_limit:\n  interval: {text}\n  burst: 5\n").current().limit
    assert (limit and limit.interval_seconds) == seconds


def test_what_has_no_effect_is_noted(directory: Path) -> None:
    [note] = web_file(directory, "http_server_config:\n  http2: true\n").current().notes
    assert note.endswith("web.yml: [http_server_config] http2 is true, but HTTP/2 is not served")
    [note] = web_file(directory, TLS + "  client_auth_type: RequestClientCert\n").current().notes
    assert "client_auth_type is 'RequestClientCert', but clients are not asked" in note
    assert web_file(directory, "http_server_config:\n  http2: false\n").current().notes == ()


def test_a_secret_that_every_user_can_read_is_noted(directory: Path) -> None:
    for path, text in (("web.yml", f"basic_auth_users: {{a: {HASH}}}\n"), ("server.key", TLS)):
        (directory / "web.yml").touch()
        (directory / path).chmod(0o644)
        [note] = web_file(directory, text).current().notes
        assert note == f"{directory / path} can be read by every user of this host; chmod o-r"
        (directory / path).chmod(0o640)
        assert web_file(directory, text).current().notes == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("junk\nand more\n", " has no keys; the keys of a web configuration are tls_server_config, http_"),
        ("- a\n", " has no keys; the keys"),
        ("a: [\n", " is not YAML in line 2: "),
        ("a: \x01\n", " is not YAML: it nests too deeply, or has forbidden characters"),
        ('a: "\\UFFFFFFFF"\n', " is not YAML: it nests too deeply, or has forbidden characters"),
        ("a: " + "[" * 20_000, " is not YAML: it nests too deeply, or has forbidden characters"),
        ("tls_server_confg: {}\n", " has no table 'tls_server_confg'; did you mean 'tls_server_config'?"),
        ("tls_server_config: on\n", ": tls_server_config is 'on'; make it a table"),
        ("tls_server_config:\n  cert_filse: x\n", "] has no key 'cert_filse'; did you mean 'cert_file'?"),
        ("rate_limit: {}\nrate_limit: {}\n", " is not YAML in line 1: a key comes twice in one mapping"),
        ("tls_server_config:\n  key_file: server.key\n", ": [tls_server_config] has neither cert nor cert_file; TLS"),
        ('tls_server_config:\n  cert_file: server.pem\n  key: ""\n', " has neither key nor key_file; TLS needs one"),
        ("tls_server_config:\n  min_version: TLS13\n", " has neither cert nor cert_file"),
        (TLS.replace("server.key", "no.key"), "no.key can't be read: No such file or directory; give a file that"),
        (TLS.replace("server.key", "other.key"), "other.key is not the key of cert_file "),
        (TLS.replace("server.pem", "server.key"), " are not a certificate and a key; give both in PEM"),
        (TLS + "  min_version: TLS111\n", "] min_version is 'TLS111'; give one of TLS12, TLS13"),
        (TLS + "  min_version: TLS10\n", "] min_version is 'TLS10', which is not served: RFC 8996 forbids it; give"),
        (TLS + "  min_version: TLS13\n  max_version: TLS12\n", "] min_version is TLS13, newer than max_version"),
        (TLS + "  curve_preferences: [X25519, CurveP256]\n", "] curve_preferences is ['X25519', 'CurveP256'], which"),
        (TLS + "  curve_preferences: [CurveP257]\n", "] curve_preferences is 'CurveP257'; give one of CurveP256"),
        (TLS + "  cipher_suites: [TLS_ECDHE_X]\n", "] cipher_suites is 'TLS_ECDHE_X'; give one of TLS_AES_128_GCM_"),
        (TLS + "  cipher_suites: [TLS_AES_128_GCM_SHA256]\n  max_version: TLS12\n", "] cipher_suites has none of TLS"),
        (TLS + "  prefer_server_cipher_suites: perhaps\n", "_cipher_suites is 'perhaps'; give true or false"),
        (TLS + "  client_auth_type: x\n", "] client_auth_type is 'x'; give one of NoClientCert, "),
        (TLS + "  client_auth_type: RequireAnyClientCert\n", "'RequireAnyClientCert', which would accept certificates"),
        (TLS + "  client_ca_file: ca.pem\n", "] has client_ca_file, but client_auth_type is NoClientCert, so that no"),
        (TLS + "  client_allowed_sans: [a]\n", "] has client_allowed_sans, but client_auth_type is NoClientCert"),
        (
            TLS + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: server.key\n",
            "server.key has no certificates; give those in PEM",
        ),
        ("http_server_config:\n  http2: maybe\n", "] http2 is 'maybe'; give true or false"),
        ("http_server_config:\n  headers: {Content-Type: x}\n", ".headers] Content-Type can't be set; the headers are"),
        ("http_server_config:\n  headers: {X-Frame-Options: x}\n", ".headers] X-Frame-Options is 'x'; give deny or sa"),
        ('http_server_config:\n  headers: {X-XSS-Protection: "1\\r\\na: b"}\n', "give one line of ASCII"),
        ("basic_auth_users:\n  joe: s3cret\n", ": [basic_auth_users] joe is not a bcrypt hash; make one: htpasswd"),
        (f"basic_auth_users:\n  joe: $2b$10${'a' * 53}\n", "joe is not a bcrypt hash"),
        ("rate_limit:\n  interval: 5\n", ": [rate_limit] interval is '5'; give a duration with its unit, such as"),
        ("rate_limit:\n  interval: 1s or so\n", ": [rate_limit] interval is '1s or so'; give a duration"),
        ("rate_limit:\n  burst: -1\n", ": [rate_limit] burst is -1; give a number from 0"),
        ("rate_limit:\n  burst: many\n", ": [rate_limit] burst is 'many'; give a whole number"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_key_value_and_remedy(directory: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        web_file(directory, text)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(directory / "web.yml"))
    assert "\n" not in str(caught.value)


def test_all_mistakes_of_a_file_are_named_at_once(directory: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        web_file(
            directory,
            TLS.replace("server.key", "no.key")
            + "http_server_config:\n  headers: {Content-Type: x, X-Frame-Options: y}\n"
            + "basic_auth_users: {joe: a, jim: b}\nrate_limit: {interval: 5}\n",
        )
    assert [re.search(r"joe|jim|Content-Type|X-Frame|interval|no\.key", one)[0] for one in caught.value.args] == [  # type: ignore[index]
        "joe", "jim", "Content-Type", "X-Frame", "interval", "no.key",
    ]  # fmt: skip


def test_the_sentence_about_a_password_does_not_have_it(directory: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        web_file(directory, "basic_auth_users:\n  joe: s3cret\n")
    assert "s3cret" not in str(caught.value)


def test_a_key_with_a_passphrase_is_refused_without_a_prompt(directory: Path) -> None:
    command = [
        find_program("openssl"),
        "ec",
        "-aes128",
        "-passout",
        "pass:x",
        "-in",
        "server.key",
        "-out",
        "locked.key",
    ]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)
    with pytest.raises(ConfigurationError, match="give both in PEM, the key without a passphrase"):
        web_file(directory, TLS.replace("server.key", "locked.key"))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no\.yml can't be read: No such file or directory; give the exporter's"
    ):
        WebFile(tmp_path / "no.yml")


def test_a_changed_file_is_reread_and_a_wrong_one_leaves_the_last_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    web = web_file(tmp_path, f"basic_auth_users:\n  a: {HASH}\nrate_limit:\n  interval: 1s\n")
    first = web.current()
    assert web.current() is first
    path = tmp_path / "web.yml"
    path.write_text("basic_auth_users:\n  a: wrong\n")
    assert [web.current() is first for _ in range(3)] == [True] * 3
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    path.unlink()
    assert web.current() is first
    assert len(caplog.records) == 2
    path.write_text(f"basic_auth_users:\n  a: {HASH}\n  b: {HASH}\nrate_limit:\n  interval: 1s\n")
    second = web.current()
    assert second.tables.basic_auth_users.keys() == {"a", "b"}
    assert second.limit is first.limit, "the bucket is full again after each change"
    assert second.passwords is not first.passwords, "passwords are remembered that may be wrong now"


def test_tls_is_turned_on_and_off_by_a_restart_only(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    web = web_file(directory, TLS)
    (directory / "web.yml").write_text("")
    assert web.current().tls is not None
    assert "tls_server_config was removed; restart the exporter" in caplog.records[0].__dict__["error"]


def test_a_certificate_is_reread_with_its_key(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    authority = Authority(tmp_path)
    authority.certificate("server")
    web = web_file(tmp_path, TLS)
    first = web.tls()
    certificate, key = authority.certificate("new")
    os.replace(certificate, tmp_path / "server.pem")
    assert web.tls() is first, "the new certificate's key is not there yet"
    os.replace(key, tmp_path / "server.key")
    assert web.tls() is not first
    assert [one.levelname for one in caplog.records] == ["ERROR"]
