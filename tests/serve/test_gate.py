"""Who is answered, and what every answer carries: asked over raw sockets, as an attacker would."""

import socket

import pytest
from tests.serve.conftest import HOSTILE

from whence.jobs.serve.gate import MOST_TARGET, MOST_VALUE


def test_the_address_is_on_this_machine_alone_and_cannot_be_guessed(served):
    host, port = served.explorer.server.server_address

    assert host == "127.0.0.1"
    assert served.url == f"http://127.0.0.1:{port}{served.base}/"
    assert len(served.base) >= 32  # 24 random bytes
    assert served.base not in repr(served.explorer.server.gate)


@pytest.mark.parametrize(
    "path",
    ["/", "", "/wrong/", "/{token}x/", "/{short}/", "/?token={token}", "/wrong/run/0123456789ab/", "*"],
)
def test_without_the_token_nothing_is_shown(served, path):
    token = served.base[1:]
    answer = served.ask(path.format(token=token, short=token[:-1]), whole=True)

    assert answer.status == 403
    assert token not in answer.text
    assert "geography" not in answer.text


@pytest.mark.parametrize("what", ["/style.css", "/explorer.js", "/run/{key}/report.html", "/run/{key}/document/0"])
def test_no_file_is_exempt_from_the_token(served, what):
    path = what.format(key=served.key("geography"))

    assert served.ask(path).status == 200
    assert served.ask("/x" + path, whole=True).status == 403


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", "0.0.0.0:{port}"],
)
def test_another_host_is_refused(served, host):
    """A name that an attacker points at this machine is what rebinding needs."""
    assert served.ask(Host=None if host is None else host.format(port=served.port)).status == 403


def test_localhost_is_a_name_of_ours(served):
    assert served.ask(Host=f"localhost:{served.port}").status == 200


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://127.0.0.1:1", "https://127.0.0.1:{port}"])
def test_another_origin_is_refused(served, origin):
    assert served.ask(Origin=origin.format(port=served.port)).status == 403


def test_our_own_origin_is_not(served):
    assert served.ask(Origin=f"http://127.0.0.1:{served.port}").status == 200


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_who_led_here(served, site, status):
    """Another port of this machine is the same *site* and not us."""
    assert served.ask(Sec_Fetch_Site=site).status == status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
def test_there_is_nothing_but_looking(served, method):
    answer = served.ask(method=method)

    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"


def test_head_is_get_without_a_body(served):
    get, head = served.ask(), served.ask(method="HEAD")

    assert (head.status, head.text) == (200, "")
    assert head.headers["Content-Length"] == str(len(get.text.encode()))


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/run/../../../etc/passwd",
        "/run/{key}/../../manifest.json",
        "/run/{key}/manifest.json",
        "/run/{key}/data/documents.parquet",
        "/run/{key}/%2e%2e/%2e%2e/etc/passwd",
        "/run/%2e%2e/report.html",
        "/run/{key}/report.html/../settings.toml",
        "/run/geography/",
        "/run/{key}",
        "/run/{key}/document/-1",
        "/run/{key}/document/0x1",
        "/run/{key}/document/%D9%A3",
        "/style.css/../explorer.js",
        "/run/000000000000/",
    ],
)
def test_an_address_is_never_a_path(served, path):
    path = path.format(key=served.key("geography"))
    answer = served.ask(path)

    assert answer.status == 404
    assert "root:" not in answer.text
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (f"q={'x' * (MOST_VALUE + 1)}", 400),
        (f"q={'x' * MOST_TARGET}", 414),
        ("q=a&q=b", 400),
        ("&".join(f"a{n}=1" for n in range(200)), 400),
        ("page=0", 400),
        ("page=-1", 400),
        ("page=1e3", 400),
        ("page=99999999999999999999", 400),
        ("page=%D9%A3", 400),
        ("sort=random", 400),
        ("by=seven&sort=raises", 400),
        ("by=7&sort=raises", 500),  # there is no such question: said so, in words
        ("answers=none", 500),
        ("c1=99", 400),
        ("c2.from=much", 400),
        ("c2.from=nan", 400),
        ("unknown=1", 400),
        ("q=%FF", 400),
        ("copies=126", 400),
    ],
)
def test_what_an_address_asks_is_bounded(served, query, status):
    answer = served.of(f"documents?{query}")

    assert answer.status == status
    assert "Traceback" not in answer.text
    assert HOSTILE not in answer.text


PAGES = ["", "documents", "document/3", "question/0", "progress", "report.html"]


def headers_of(answer):
    return {name.lower(): value for name, value in answer.headers.items()}


def test_every_answer_carries_the_same_guard(served):
    key = served.key("geography")
    answers = [
        served.ask(),
        served.ask("/nothing"),
        served.ask("/", whole=True),
        served.ask(method="POST"),
        served.ask("/style.css"),
        served.ask("/explorer.js"),
        *(
            served.ask(f"/run/{key}/{page}")
            for page in ["", "documents", "document/3", "question/0", "progress", "report.html"]
        ),
    ]
    for answer in answers:
        headers = headers_of(answer)
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe-inline" not in headers["content-security-policy"]
        assert "Python" not in headers["server"]
        assert "set-cookie" not in headers
        assert "access-control-allow-origin" not in headers


def test_pages_are_framed_by_nobody_and_hold_nothing_inline(served):
    answer = served.of("question/0")
    policy = headers_of(answer)["content-security-policy"]

    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy
    for directive in ("script-src", "style-src", "connect-src", "form-action"):
        assert f"{directive} 'self'" in policy
    assert "<style" not in answer.text
    assert " style=" not in answer.text
    assert "<script>" not in answer.text


def test_a_report_is_served_under_its_own_policy_in_a_sandbox(served, folder):
    answer = served.of("report.html")
    policy = headers_of(answer)["content-security-policy"]

    assert answer.text == (folder / "geography" / "report.html").read_text(encoding="utf-8")
    assert "script-src 'sha256-" in policy
    assert "connect-src 'none'" in policy
    assert "sandbox allow-scripts" in policy
    assert "allow-same-origin" not in policy


@pytest.mark.parametrize(
    "report",
    [
        "<html><script>alert(1)</script>",
        '<meta http-equiv="Content-Security-Policy" content="default-src *; script-src *">',
        '<meta http-equiv="Content-Security-Policy" content="default-src &#39;none&#39;; script-src *">',
    ],
)
def test_what_is_no_report_of_ours_runs_no_script(report):
    from whence.report.html import policy_of

    policy = policy_of(report.encode())

    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def raw(port, request):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


@pytest.mark.parametrize(
    "request_",
    [
        b"GET {base}/ HTTP/1.1\r\n\r\n",
        b"GET {base}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nHost: evil.example\r\n\r\n",
        b"GET http://evil.example{base}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n",
        b"GET {base}/\r\nHost: 127.0.0.1:{port}\r\n\r\n",
        b"GET {base}/ HTTP/9.9\r\nHost: 127.0.0.1:{port}\r\n\r\n",
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"GET {base}/ HTTP/1.1\r\n" + b"a: b\r\n" * 500 + b"\r\n",
        b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
    ],
)
def test_a_request_that_no_browser_sends_is_refused(served, request_):
    request_ = request_.replace(b"{base}", served.base.encode()).replace(b"{port}", str(served.port).encode())
    answer = raw(served.port, request_)

    assert b"geography" not in answer
    assert b"Traceback" not in answer
    assert b" 200 " not in answer.split(b"\r\n")[0]


def test_a_mistake_of_ours_is_told_in_the_terminal_and_not_in_the_browser(folder, monkeypatch):
    from tests.serve.conftest import Served

    served = Served(folder)
    monkeypatch.setattr(served.explorer.server.site, "_look", lambda: 1 / 0)
    answer = served.ask()
    served.end()

    assert answer.status == 500
    assert "ZeroDivisionError" not in answer.text
    assert "terminal" in answer.text
    assert any("ZeroDivisionError" in said for said in served.said)


def test_a_port_that_is_taken_is_refused_by_name(served, folder):
    from whence.errors import StorageError
    from whence.jobs.serve import explorer

    with pytest.raises(StorageError, match=f"port {served.port} of 127.0.0.1"):
        explorer(folder, served.port)
