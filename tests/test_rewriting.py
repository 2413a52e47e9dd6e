"""POST /{tenant}/emails with html and text, and POST /{tenant}/messages: emails come back tracked.

What is expected is put together by hand, with addresses that `signatures` makes.
"""

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any

import pytest

import signatures
from batches import slow_lane
from bell import Answer, Bell, dump, events, fresh_tenant, linux, serving
from little_bell.errors import Refused
from little_bell.mail.report import MOST_LINKS, OPTED_OUT, REFUSED
from little_bell.tracking.privacy import CONSENTS
from test_disk_errors import PROGRAM, Faulty

KEY = "a-key-that-signs-links-in-tests"
BASE = "https://t.example/bell"
SETTINGS = {"SECRET_KEY": KEY, "BASE_URL": BASE, "INSTANT_SECONDS": "0"}
MAIL = {"Content-Type": "message/rfc822"}
JSON = {**MAIL, "Accept": "application/json"}
URL = "https://shop.example/?a=1&b=2"
HREF = "HTTPS://Shop.example?a=1&amp;b=2"
ODD = "<!DOCTYPE html>\r\n<![if !mso]><p A=b>\u00fc&copy\n\r{{ x }}\0\ud83d\U0001f514<!-- a -->"
MIB = 1 << 20


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("rewriting"), **SETTINGS) as bell:
        yield bell


def link(
    tenant: str, email: int, url: str = URL, label: str = "", part: str = "html", base: str = BASE
) -> str:
    return f"{base}/{tenant}/l/{email}/" + signatures.token(
        KEY.encode(), tenant, email, url, label, part
    )


def pixel(tenant: str, email: int, base: str = BASE) -> str:
    return f"{base}/{tenant}/o/{email}/{signatures.pixel(KEY.encode(), tenant, email)}"


def image(tenant: str, email: int) -> str:
    return f'<img src="{pixel(tenant, email)}" width="1" height="1" alt="" />'


def post(bell: Bell, tenant: str, query: str = "", once: str = "", **members: Any) -> Answer:
    headers = {"Idempotency-Key": once} if once else {}
    return bell.ask("POST", f"/{tenant}/emails{query}", members, headers)


def send(bell: Bell, tenant: str, raw: bytes, query: str = "", **headers: str) -> Answer:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return bell.ask("POST", f"/{tenant}/messages{query}", raw, {**MAIL, **given})


def path_of(url: str) -> str:
    assert url.startswith(BASE)
    return url.removeprefix(BASE)


def message(html: bytes, *fields: bytes) -> bytes:
    lines = (*fields, b"MIME-Version: 1.0", b"Content-Type: text/html; charset=utf-8")
    return b"\r\n".join((*lines, b"", html))


def count(bell: Bell, tenant: str) -> int:
    sql = "SELECT count(*) FROM emails JOIN tenants USING (tenant) WHERE name = ?"
    return int(bell.rows(sql, tenant)[0][0])


# Emails in JSON


def test_it_works(bell: Bell) -> None:
    tenant = fresh_tenant()
    html = f"{ODD}<a href='{HREF}'>Our <b>shop</b></a> <a href=#x>y</a></body>\r\n"
    members = {"subject": "Hi", "recipient": "ada@example.com", "html": html, "text": f"See {URL}."}
    answer = post(bell, tenant, **members, options={"text_too": True})
    assert answer.status == 201
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["location"] == f"/bell/{tenant}/emails/1"
    shop, text = link(tenant, 1, label="Our shop"), link(tenant, 1, part="text")
    expected = html.replace(HREF, shop).replace("</body>", image(tenant, 1) + "</body>")
    assert answer.json == {
        "email_id": 1,
        "tracking_pixel_url": pixel(tenant, 1),
        "html": expected,
        "text": f"See {text}.",
        "report": {
            "tracked": [
                {"url": URL, "tracked_url": shop, "label": "Our shop", "part": "html"},
                {"url": URL, "tracked_url": text, "label": "", "part": "text"},
            ],
            "skipped": [{"url": "#x", "reason": "not absolute", "part": "html"}],
            "problems": [],
        },
    }
    stored = bell.get(f"/{tenant}/emails/1").json
    assert (stored["subject"], stored["recipient"]) == ("Hi", "ada@example.com")


def test_what_it_makes_counts(bell: Bell) -> None:
    tenant = fresh_tenant()
    html = f'<a href="{escape(URL)}">Shop</a>'
    made = post(bell, tenant, html=html, campaign="spring").json
    assert bell.get(path_of(made["tracking_pixel_url"])).headers["content-type"] == "image/gif"
    clicked = bell.get(path_of(made["report"]["tracked"][0]["tracked_url"]))
    assert (clicked.status, clicked.headers["location"]) == (302, URL)
    assert events(bell, tenant) == [(1, "open"), (1, "click")]
    [followed] = bell.get(f"/{tenant}/links").json["links"]
    assert (followed["url"], followed["label"], followed["part"]) == (URL, "Shop", "html")
    assert bell.get(f"/{tenant}/campaigns").json["campaigns"][0]["unique_opens"] == 1


@pytest.mark.parametrize(
    ("options", "html", "expected"),
    [
        ({"pixel": "none"}, "<p>x", "<p>x"),
        ({"pixel": "top"}, "<body><p>x", "<body>{img}<p>x"),
        ({"placeholder": "[[here]]"}, "<p>[[here]]</p>x", "<p>{img}</p>x"),
        ({"placeholder": None}, "<p>x", "<p>x{img}"),
        (None, "<p>x", "<p>x{img}"),
        ({"pixel": "none"}, f"<a href='{URL}'>{URL}</a>", "<a href='{link}'>" + URL + "</a>"),
        (
            {"pixel": "none", "skip_visible_urls": True},
            f"<a href='{URL}'>{URL}</a>",
            f"<a href='{URL}'>{URL}</a>",
        ),
        (
            {"pixel": "none"},
            "<a href='https://a.example/unsubscribe'>x</a>",
            "<a href='https://a.example/unsubscribe'>x</a>",
        ),
    ],
)
def test_options(bell: Bell, options: object, html: str, expected: str) -> None:
    tenant = fresh_tenant()
    made = post(bell, tenant, html=html, options=options).json
    shown = link(tenant, 1, label=URL)
    assert made["html"] == expected.format(img=image(tenant, 1), link=shown)


def test_text_is_left_alone_unless_asked(bell: Bell) -> None:
    made = post(bell, fresh_tenant(), text=f"{URL}\r\n").json
    assert (made["html"], made["text"]) == (None, f"{URL}\r\n")


def test_nothing_to_track_is_nothing_changed(bell: Bell) -> None:
    made = post(bell, fresh_tenant(), html=ODD, options={"pixel": "none"}).json
    assert made["html"] == ODD


def test_twice_is_once(bell: Bell) -> None:
    tenant = fresh_tenant()
    once = post(bell, tenant, html=f"<a href='{URL}'>x</a>").json["html"]
    made = post(bell, tenant, html=once, options={"pixel": "none"}).json
    assert made["report"]["skipped"] == [
        {"url": link(tenant, 1, label="x"), "reason": "own", "part": "html"}
    ]
    assert made["html"] == once.replace(image(tenant, 1), "")  # our older pixel


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"html": 1}, "html"),
        ({"html": "", "text": ["x"]}, "text"),
        ({"options": []}, "options"),
        ({"options": {"pixels": "top"}}, "options"),
        ({"options": {"pixel": "left"}}, "options.pixel"),
        ({"options": {"pixel": None}}, "options.pixel"),
        ({"options": {"text_too": 1}}, "options.text_too"),
        ({"options": {"placeholder": ""}}, "options.placeholder"),
        ({"options": {"placeholder": "x" * 257}}, "options.placeholder"),
        ({"html": "", "subjekt": "x"}, "subjekt"),
        ({"html": "", "subject": 1}, "subject"),
    ],
)
def test_wrong_members(bell: Bell, members: dict[str, Any], field: str) -> None:
    before = dump(bell.database)
    answer = post(bell, fresh_tenant(), **members)
    assert (answer.status, answer.json["field"]) == (400, field)
    assert dump(bell.database) == before


@pytest.mark.parametrize("name", ["html", "text", "options"])
@pytest.mark.parametrize("kind", ["application/json", "application/x-ndjson"])
def test_one_email_at_a_time(bell: Bell, name: str, kind: str) -> None:
    item = json.dumps({name: "x"})
    body = f"[{{}}, {item}]" if kind.endswith("/json") else f"{{}}\n{item}\n"
    answer = bell.ask("POST", f"/{fresh_tenant()}/emails", body, {"Content-Type": kind})
    assert (answer.status, answer.json["field"]) == (400, name)
    assert f"{name} is for one email at a time" in answer.json["detail"]
    tried = bell.ask("POST", f"/{fresh_tenant()}/emails?dry_run=1", "[{}]", {"Content-Type": kind})
    assert tried.status == 400


# Whole messages


def test_a_message(bell: Bell) -> None:
    tenant = fresh_tenant()
    raw = message(
        b"<p>\xc3\xbc <a href='https://a.example/'>x</a></p>\r\n",
        b"Received: from a\r\n\tby b",
        b"to: Ada <ada@example.com>",
        b"SUBJECT: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_an?= alle",
        b'X-Little-Bell: campaign="spring sale";\r\n pixel=none',
    )
    answer = send(bell, tenant, raw)
    assert answer.status == 201
    assert answer.headers["content-type"] == "message/rfc822"
    assert answer.headers["little-bell-email-id"] == "1"
    tracked = link(tenant, 1, "https://a.example/", "x").encode()
    steered = raw[raw.index(b"X-Little-Bell") : raw.index(b"MIME-Version")]
    assert answer.body == raw.replace(steered, b"").replace(b"https://a.example/", tracked)
    stored = bell.get(f"/{tenant}/emails/1").json
    assert stored["subject"] == "Gr\u00fc\u00dfe an alle"
    assert stored["recipient"] == "ada@example.com"
    assert stored["campaign"] == "spring sale"


def test_a_message_in_json(bell: Bell) -> None:
    tenant = fresh_tenant()
    answer = send(bell, tenant, message(b"<p>x</body>"), Accept="application/json")
    assert (answer.status, answer.headers["content-type"]) == (201, "application/json")
    assert answer.json == {
        "email_id": 1,
        "tracking_pixel_url": pixel(tenant, 1),
        "message": base64.b64encode(message(f"<p>x{image(tenant, 1)}</body>".encode())).decode(),
        "report": {"tracked": [], "skipped": [], "problems": []},
    }


@pytest.mark.parametrize(
    ("fields", "query", "recipient", "campaign"),
    [
        ((b"To: a@b.example, c@d.example",), "", None, None),
        ((b"To: a@b.example", b"To: c@d.example"), "", None, None),
        ((b"To: undisclosed-recipients:;",), "", None, None),
        ((b"To: \xff\xfe@x",), "", None, None),
        ((b"To: Ada",), "", None, None),
        ((b"To: " + b"(" * 3900,), "", None, None),
        ((b"To: " + b"a@b.example:" * 300,), "", None, None),
        ((b"To: " + b"a" * 400 + b"@b.example",), "", None, None),
        ((b"To: a@b.example", b"Cc: c@d.example"), "", "a@b.example", None),
        ((b"To: a@b.example",), "?recipient=x%40y.example&campaign=c", "x@y.example", "c"),
        ((b"To: a@b.example",), "?recipient=", None, None),  # several get it
        ((b"X-Little-Bell: campaign=own",), "?campaign=c", None, "own"),
        ((b"X-Little-Bell: campaign=" + b"x" * 129,), "?campaign=c", None, "c"),
    ],
)
def test_what_is_known_of_a_message(
    bell: Bell, fields: tuple[bytes, ...], query: str, recipient: str | None, campaign: str | None
) -> None:
    tenant = fresh_tenant()
    assert send(bell, tenant, message(b"x", *fields), query).status == 201
    stored = bell.get(f"/{tenant}/emails/1").json
    assert (stored["recipient"], stored["campaign"]) == (recipient, campaign)


def test_options_of_a_message(bell: Bell) -> None:
    """The message's own word counts before the query's; what is no word is told."""
    tenant = fresh_tenant()
    said = b"X-Little-Bell: pixel=none; text_too=perhaps; color=red"
    raw = message(b"<body>x</body>", said)
    made = send(bell, tenant, raw, "?pixel=top", Accept="application/json").json
    assert base64.b64decode(made["message"]) == raw.replace(said + b"\r\n", b"")
    problems = made["report"]["problems"]
    assert len(problems) == 2
    assert all(one.startswith("X-Little-Bell: ") for one in problems)
    top = send(bell, tenant, message(b"<body>x</body>"), "?pixel=top")
    assert top.body == message(f"<body>{image(tenant, 2)}x</body>".encode())


def test_a_message_that_is_not_to_be_tracked(bell: Bell) -> None:
    tenant = fresh_tenant()
    raw = message(b"<a href='https://a.example/'>x</a>", b"To: a@b.example")
    for more in ({}, {"Accept": "application/json"}):
        answer = send(bell, tenant, b"X-Little-Bell: track=none\r\n" + raw, **more)
        assert answer.status == 200
        assert "little-bell-email-id" not in answer.headers
        got = base64.b64decode(answer.json["message"]) if more else answer.body
        assert got == raw
    assert answer.json["email_id"] is None
    assert answer.json["tracking_pixel_url"] is None
    assert count(bell, tenant) == 0


@pytest.mark.parametrize(
    ("raw", "query", "headers", "status"),
    [
        (b"x: y\n\nz", "", {"Content-Type": "text/plain"}, 415),
        (b"x: y\n\nz", "", {"Content-Type": ""}, 415),
        (b"x: y\n\nz", "", {**MAIL, "Content-Encoding": "gzip"}, 415),
        (b"", "", MAIL, 400),
        (b" \r\n", "", MAIL, 400),
        (b"x: y\n\nz", "?pixel=left", MAIL, 400),
        (b"x: y\n\nz", "?text_too=maybe", MAIL, 400),
        (b"x: y\n\nz", "?dry_run=2", MAIL, 400),
        (b"x: y\n\nz", "?consent=some", MAIL, 400),
        (b"x: y\n\nz", "?campaign=" + "x" * 129, MAIL, 400),
        (b"x: y\n\nz", "?colour=red", MAIL, 400),
        (b"x: y\n\nz", "", {**MAIL, "Idempotency-Key": "x" * 256}, 400),
    ],
)
def test_wrong_messages(
    bell: Bell, raw: bytes, query: str, headers: dict[str, str], status: int
) -> None:
    before = dump(bell.database)
    answer = bell.ask("POST", f"/{fresh_tenant()}/messages{query}", raw, headers)
    assert answer.status == status, answer
    assert dump(bell.database) == before


def test_what_cannot_be_rewritten_comes_back(bell: Bell) -> None:
    tenant = fresh_tenant()
    html = b"<a href='https://a.example/'>x</a>"
    many = b"<a href='https://a.example/'>x</a>" * (MOST_LINKS + 1)
    for raw in (
        message(html).replace(b"utf-8", b"klingon"),
        message(html + b"\xff"),
        message(b"\0" + html),
        message(html, b"Content-Transfer-Encoding: base64"),
        message(html, b"DKIM-Signature: v=1"),
        message(many),
        b"\xff\0" * 50,
    ):
        answer = send(bell, tenant, raw, Accept="application/json")
        assert answer.status == 201
        assert base64.b64decode(answer.json["message"]) == raw
        told = answer.json["report"]
        assert told["problems"] or told["skipped"] or raw[0] == 255
    made = post(bell, tenant, html=many.decode()).json
    assert made["html"] == many.decode()
    assert "25,000 links" in made["report"]["problems"][0]


# Nothing is created


def test_dry_run(bell: Bell) -> None:
    tenant = fresh_tenant()
    before = dump(bell.database)
    html = f"<a href='{URL}'>x</a>"
    made = post(bell, tenant, "?dry_run=1", once="a", html=html)
    assert (made.status, made.json["email_id"]) == (200, None)
    assert made.json["html"] == f"<a href='{link(tenant, 0, label='x')}'>x</a>" + image(tenant, 0)
    assert "location" not in made.headers
    plain = post(bell, tenant, "?dry_run=true", subject="x")
    assert (plain.status, plain.json["email_id"], plain.json["html"]) == (200, None, None)
    tried = send(bell, tenant, message(html.encode()), "?dry_run=1")
    assert (tried.status, "little-bell-email-id" in tried.headers) == (200, False)
    assert link(tenant, 0, label="x").encode() in tried.body
    for url in (link(tenant, 0, label="x"), pixel(tenant, 0)):
        bell.get(path_of(url))
    assert dump(bell.database) == before
    assert post(bell, tenant, "?dry_run=0", html=html).json["email_id"] == 1


# Trying again


def test_the_same_key_gets_the_same_bytes(bell: Bell) -> None:
    tenant = fresh_tenant()
    html = f"<a href='{URL}'>x</a>" + "y" * 200_000
    first = post(bell, tenant, once="a", html=html)
    assert post(bell, tenant, once="a", html=html).body == first.body
    assert post(bell, tenant, once="a", html=html + "z").status == 422
    raw = message(html.encode())
    sent = send(bell, tenant, raw, "?campaign=a", Idempotency_Key="b")
    again = send(bell, tenant, raw, "?campaign=a", Idempotency_Key="b")
    assert (again.body, again.headers["little-bell-email-id"]) == (sent.body, "2")
    assert send(bell, tenant, raw, "?campaign=b", Idempotency_Key="b").status == 422
    assert count(bell, tenant) == 2


def test_two_at_once_with_one_key(bell: Bell) -> None:
    tenant = fresh_tenant()

    def one(_: int) -> Answer:
        return post(bell, tenant, once="a", html=f"<a href='{URL}'>x</a>")

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(one, range(8)))
    assert {answer.status for answer in found} <= {201, 409}
    assert len({answer.body for answer in found if answer.status == 201}) == 1
    assert count(bell, tenant) == 1


# Who may not be tracked


@pytest.mark.parametrize("who", ["email", "tenant", "recipient"])
def test_who_may_not_be_tracked_gets_no_tracking(bell: Bell, who: str) -> None:
    tenant = fresh_tenant()
    bell.ask("PATCH", f"/{tenant}/settings", {"gpc": None})
    html = f"<a href='{URL}'>x</a>"
    members: dict[str, Any] = {"recipient": "Ada@example.com", "html": html}
    query = "?recipient=Ada%40example.com"
    if who == "email":
        members["consent"] = "none"
        query += "&consent=none"
    elif who == "tenant":
        bell.ask("PATCH", f"/{tenant}/settings", {"consent": "none"})
    else:
        bell.ask("POST", f"/{tenant}/optouts", {"recipient": "ada@example.com"})
    answer = post(bell, tenant, **members)
    assert (answer.status, answer.json["email_id"], answer.json["html"]) == (201, 1, html)
    [problem] = answer.json["report"]["problems"]
    assert ("opted out" if who == "recipient" else "consent") in problem
    raw = message(html.encode())
    assert send(bell, tenant, raw, query).body == raw
    assert post(bell, tenant, "?dry_run=1", **members).json["html"] == html
    assert bell.get(f"/{tenant}/stats").json["figures"]["sent"] == 2


def test_a_server_that_stores_nothing(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(CONSENT="none")
    assert post(bell, "acme", html="<p>x").json["html"] == "<p>x"


def test_totals_alone_are_tracked(bell: Bell) -> None:
    tenant = fresh_tenant()
    made = post(bell, tenant, consent=CONSENTS[1], html="<p>x").json
    assert made["html"] == "<p>x" + image(tenant, 1)


def test_links_that_may_not_lead_there(bell: Bell) -> None:
    tenant = fresh_tenant()
    bell.ask("PATCH", f"/{tenant}/settings", {"hosts": ["*.example.com"]})
    html = "<a href='https://a.example.com/'>x</a><a href='https://evil.example/'>y</a>"
    made = post(bell, tenant, html=html).json
    assert [one["url"] for one in made["report"]["tracked"]] == ["https://a.example.com/"]
    assert made["report"]["skipped"] == [
        {"url": "https://evil.example/", "reason": REFUSED, "part": "html"}
    ]
    assert "may not lead to this host" in made["report"]["problems"][0]


def test_an_opt_out_of_a_link_holds_in_the_text(bell: Bell) -> None:
    html = f"<a data-lb-no-track href='{URL}'>x</a>"
    made = post(bell, fresh_tenant(), html=html, text=URL, options={"text_too": True}).json
    assert made["text"] == URL
    assert {one["reason"] for one in made["report"]["skipped"]} == {OPTED_OUT}


# Sizes, and many at once


def test_a_large_email(bell: Bell) -> None:
    tenant = fresh_tenant()
    filling = "\u00fc" * (5 * MIB)
    html = f"{filling}<a href='{URL}'>x</a>"
    made = post(bell, tenant, html=html)
    assert made.status == 201
    assert made.json["html"] == f"{filling}<a href='{link(tenant, 1, label='x')}'>x</a>" + image(
        tenant, 1
    )
    lines = b"<p>line</p>\r\n" * (10 * MIB // 13)
    raw = message(lines + f"<a href='{URL}'>x</a>\r\n</body>".encode())
    sent = send(bell, tenant, raw)
    tracked = link(tenant, 2, label="x")
    end = f"<a href='{tracked}'>x</a>\r\n{image(tenant, 2)}</body>".encode()
    assert sent.body == message(lines + end)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"subject": "' + b"x" * MIB + b'"}', 413),
        (b'{"html": "' + b"x" * (33 * MIB) + b'"}', 413),
        (b'{"html": "", "metadata": [' + b"[]," * MIB + b"[]]}", 400),
        (b'{"html": "' + b"x" * MIB, 400),
        (b'{"html": "' + b"x" * MIB + b'"} ,', 400),
        (b'{"html": "' + b"x" * MIB + b'" "text": ""}', 400),
        (b'{"html": "' + b"x" * MIB + b'", "subject": 1}', 400),
        (b'{"html": "' + b"x" * MIB + b'"' + b', "text": ""' * 200 + b"}", 400),
        (b'{"html": "' + b"x" * MIB + b'\xff"}', 400),
        (b"[" * MIB, 400),
        (b'{"html": "' + b"x" * MIB + b'", "metadata": ' + b"[" * 60_000 + b"}", 400),
        (b' {"html" : "' + b"x" * MIB + b'" , "metadata":{"a":"b"},"subject":null}\n', 201),
    ],
)
def test_large_bodies(bell: Bell, body: bytes, status: int) -> None:
    answer = bell.ask("POST", f"/{fresh_tenant()}/emails", body)
    assert answer.status == status, answer.body[:300]


def test_an_answer_that_is_larger_than_what_may_be_owed(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_MESSAGE_BYTES=str(64 * MIB), SECRET_KEY=KEY, BASE_URL=BASE)
    raw = message((b"x" * 510 + b"\r\n") * (100 * MIB // 1024))
    made = send(bell, "acme", raw, "?pixel=none", Accept="application/json")
    assert len(made.body) > 64 * MIB
    assert base64.b64decode(made.json["message"]) == raw


def test_a_message_that_is_too_large(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(MAX_MESSAGE_BYTES="65536")
    assert send(bell, "acme", message(b"x" * 65_536)).status == 413
    assert send(bell, "acme", message(b"x" * 60_000)).status == 201
    assert post(bell, "acme", html="x" * 70_000).status == 413


def test_a_message_in_chunks(bell: Bell) -> None:
    def pieces() -> Iterator[bytes]:
        yield message(b"<body>")
        for _ in range(100):
            yield b"x" * 900 + b"\r\n"
        yield b"</body>"

    import http.client

    tenant = fresh_tenant()
    connection = http.client.HTTPConnection("127.0.0.1", bell.port, timeout=20)
    connection.request("POST", f"/{tenant}/messages", pieces(), MAIL, encode_chunked=True)
    answer = connection.getresponse()
    assert answer.status == 201
    assert image(tenant, 1).encode() in answer.read()
    connection.close()


def test_many_at_once(bell: Bell) -> None:
    """More than there are places for batches; each gets what was made for it."""
    tenant = fresh_tenant()

    def one(number: int) -> None:
        if number % 4 == 3:
            made = send(bell, tenant, message(f"<p>{number}</body>".encode()))
            email = int(made.headers["little-bell-email-id"])
            assert made.body == message(f"<p>{number}{image(tenant, email)}</body>".encode())
            return
        filling = "x" * (MIB * 3 // 2 if number % 32 == 0 else 10)
        answer = post(bell, tenant, subject=str(number), html=f"{number}{filling}")
        assert answer.status == 201, answer
        email = answer.json["email_id"]
        assert answer.json["html"] == f"{number}{filling}" + image(tenant, email)
        assert bell.get(f"/{tenant}/emails/{email}").json["subject"] == str(number)

    with ThreadPoolExecutor(48) as threads:
        list(threads.map(one, range(128)))
    assert count(bell, tenant) == 128


@linux
def test_the_fast_lane_has_no_part_in_it(tmp_path: Path) -> None:
    """By what its process has mapped: the parser of HTML is in the other one alone."""
    with serving(tmp_path, **SETTINGS) as bell:
        bell.create()
        for _ in range(3):
            assert post(bell, "acme", html="x" * (10 * MIB)).status == 201
        assert "turbohtml" not in Path(f"/proc/{bell.pid}/maps").read_text()
        assert "turbohtml" in Path(f"/proc/{slow_lane(bell)}/maps").read_text()


def test_a_plain_email_stays_in_the_fast_lane(tmp_path: Path) -> None:
    with serving(tmp_path) as bell:
        bell.create(subject="x", metadata={"html": "x"})
        assert bell.metrics()["slow_lane_starts_total"] == 0
        lanes = {(one["lane"], one["route"]) for one in bell.metrics()["requests_total"]}
        assert ("fast", "create_email") in lanes
        assert ("slow", "create_email") not in lanes


# What goes wrong


def test_a_kill_loses_nothing_that_was_answered(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(**SETTINGS)
    answered: dict[str, Answer] = {}

    def sender(name: str) -> None:
        for number in range(10_000):
            once = f"{name}{number}"
            try:
                answered[once] = post(bell, "acme", once=once, subject=once, html="<p>x")
            except OSError:
                return

    threads = [threading.Thread(target=sender, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    while len(answered) < 100:
        time.sleep(0.01)
    bell.kill()
    for thread in threads:
        thread.join()
    bell.start()
    subjects = dict(bell.rows("SELECT subject, email FROM emails"))
    told = {once: answer for once, answer in answered.items() if answer.status == 201}
    assert len(told) > 90
    assert {answer.status for answer in answered.values()} <= {201, 503}
    for once, answer in told.items():
        assert subjects[once] == answer.json["email_id"]
    once, answer = told.popitem()
    assert post(bell, "acme", once=once, subject=once, html="<p>x").body == answer.body


def test_a_slow_lane_that_dies_takes_nothing_along(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(**SETTINGS)
    assert post(bell, "acme", html="<p>x").status == 201
    subprocess.run(["kill", "-9", str(slow_lane(bell))], check=True)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            answer = post(bell, "acme", html="<p>x")
        except OSError:
            continue
        if answer.status == 201:
            break
    assert answer.json["html"] == "<p>x" + image("acme", answer.json["email_id"])
    assert bell.get("/health").status == 200


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    bell = Faulty(tmp_path, PROGRAM, FAULT=str(tmp_path / "fault"))
    try:
        bell.start()
        bell.set_fault("full")
        answer = post(bell, "acme", html="<p>x")
        assert (answer.status, "retry-after" in answer.headers) == (503, True)
        assert send(bell, "acme", message(b"x")).status == 503
        bell.set_fault("")
        bell.wait_for(200)
        assert post(bell, "acme", html="<p>x").json["email_id"] == 1
    finally:
        bell.end()


def test_options_are_words_or_members() -> None:
    """One list of options, however they are given."""
    from little_bell.mail.options import NAMES, read_options, read_words

    given = {"text_too": True, "pixel": "top", "placeholder": "x"}
    words = {"text_too": "1", "pixel": "top", "placeholder": "x", "other": "y"}
    assert read_options(given) == read_words(words)
    assert read_words({"text_too": "no"}, read_words(words)).pixel == "top"
    assert set(given) < set(NAMES)
    with pytest.raises(Refused):
        read_words({"signed_too": ""})
