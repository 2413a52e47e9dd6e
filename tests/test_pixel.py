"""GET, HEAD /{tenant}/pixel/{email_id}.gif"""

import struct

import pytest

from bell import BROWSER, Bell

HEADERS = {
    "content-type": "image/gif",
    "cache-control": "no-store, no-cache, must-revalidate, private, max-age=0",
    "pragma": "no-cache",
    "expires": "0",
    "cross-origin-resource-policy": "cross-origin",
    "x-content-type-options": "nosniff",
    "x-robots-tag": "noindex, nofollow",
}


def opens(bell: Bell) -> list[tuple[int, int]]:
    return bell.rows("SELECT email, class FROM events WHERE kind = 0 ORDER BY seq")


def test_it_works(bell: Bell) -> None:
    email = bell.create(subject="Hello")
    answer = bell.get(f"/acme/pixel/{email}.gif")
    assert answer.status == 200
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert answer.headers["content-length"] == str(len(answer.body))
    for absent in ("etag", "last-modified", "set-cookie", "content-encoding", "vary", "server"):
        assert absent not in answer.headers
    assert opens(bell) == [(email, 0)]


def test_it_is_one_transparent_dot(bell: Bell) -> None:
    gif = bell.get("/acme/pixel/1.gif").body
    magic, width, height = struct.unpack("<6sHH", gif[:10])
    assert (magic, width, height) == (b"GIF89a", 1, 1)
    control = gif.index(b"\x21\xf9\x04")  # graphic control extension
    assert gif[control + 3] & 1, "no transparent colour"
    assert gif.endswith(b"\x3b")


@pytest.mark.parametrize(
    "path",
    [
        "/acme/pixel/2.gif",
        "/acme/pixel/0.gif",
        "/acme/pixel/-1.gif",
        "/acme/pixel/01.gif",
        "/acme/pixel/+1.gif",
        "/acme/pixel/1_0.gif",
        "/acme/pixel/1e0.gif",
        "/acme/pixel/%31.gif",
        "/acme/pixel/%D9%A1.gif",  # an Arabic one
        "/acme/pixel/1.gif.gif",
        "/acme/pixel/99999999999999999999.gif",
        "/acme/pixel/",
        "/ACME/pixel/1.gif",
        "/nobody/pixel/1.gif",
        "/-/pixel/1.gif",
        "/..%2f/pixel/x",
    ],
)
def test_whatever_the_path_it_is_the_same_gif(bell: Bell, path: str) -> None:
    email = bell.create()
    assert email == 1
    known = bell.get("/acme/pixel/1.gif")
    other = bell.get(path)
    assert (other.status, other.body) == (200, known.body)
    assert {**other.headers, "date": ""} == {**known.headers, "date": ""}
    assert opens(bell) == [(1, 0)], "an id that was never issued counted"
    assert bell.metrics()["hits_unknown_id_total"] == 1


@pytest.mark.parametrize("path", ["/acme/pixel/1", "/acme/pixel/1.gif?t=1&x=%00", "/acme/pixel/1?"])
def test_extension_and_query_are_optional(bell: Bell, path: str) -> None:
    bell.create()
    bell.get(path)
    assert opens(bell) == [(1, 0)]


def test_head_answers_like_get_and_counts_nothing(bell: Bell) -> None:
    bell.create()
    got = bell.ask("GET", "/nobody/pixel/1.gif")
    head = bell.ask("HEAD", "/acme/pixel/1.gif")
    assert (head.status, head.body) == (200, b"")
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}
    assert opens(bell) == []
    assert bell.metrics()["hits_head_total"] == 1


def test_wrong_method(bell: Bell) -> None:
    answer = bell.ask("POST", "/acme/pixel/1.gif", b"x")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"


def test_hostile_user_agents_are_stored_as_text_within_bounds(bell: Bell) -> None:
    bell.create()
    for agent in (b"\xff\xfe\x80" * 300, "é".encode() * 600, b"a" * 4000, b"", "\u202e😀".encode()):
        bell.ask("GET", "/acme/pixel/1.gif", headers={"User-Agent": agent.decode("latin-1")})
    stored = [agent for (agent,) in bell.rows("SELECT user_agent FROM agents")]
    assert len(opens(bell)) == 5
    assert len(stored) == 5
    assert all(len(agent.encode("utf-8")) <= 512 for agent in stored)
    assert "\u202e😀" in stored


def test_log_line(bell: Bell) -> None:
    email = bell.create("company_a")
    bell.ask(
        "GET",
        f"/company_a/pixel/{email}.gif",
        headers={"X-Forwarded-For": "192.168.1.77", "User-Agent": BROWSER},
    )
    bell.stop()
    [line] = [line for line in bell.lines() if line["message"] == "Email opened"]
    assert set(line) == {"timestamp", "level", "message", "fields"}
    assert line["level"] == "INFO"
    assert len(line["timestamp"]) == len("2024-01-01T12:00:00Z")
    assert line["fields"] == {
        "tenant_id": "company_a",
        "email_id": email,
        "ip_address": "192.168.1.0",
    }
