"""What every proxy of deploy/ has to do: tests/test_nginx.py and tests/test_caddy.py run these."""

import re
import socket
import time
from collections.abc import Callable
from http.client import HTTPResponse

import pytest
from playwright.sync_api import Browser, expect

from access import bearer, create_key
from batches import NDJSON, lines, some
from bell import Bell, Line, fresh_tenant, wait_until
from browser import visiting
from fronts import CLIENTS, SITE, Front, head, sent, stored

LIES = (
    "X-Forwarded-For: 6.6.6.6",
    "X-Forwarded-For: 7.7.7.7, 8.8.8.8",
    "X-Real-IP: 9.9.9.9",
    "Forwarded: for=6.6.6.6",
)
ODD = (
    b"https%3A%2F%2Fexample.com%2Fa%252Fb%2Fc",
    b"https://example.com/a%2Fb%2f..%2Fc;d=1;e+f%2Bg%20h",
    b"https://example.com/?a=1;b=2+3%2B4%26c",
    b"https://example.com/a//b/./c/../d//",
    b"https://example.com/%2e%2e/%252e/%C3%A9?q=%F0%9F%94%94",
    b"https://example.com/\xc3\xa9?\xe2\x82\xac",
    b"https://example.com/?|{}^`[]\\'()*!~$,@:",
    b"https://example.com/%7Euser/%41%zz?%",
    b"https://example.com/?x=<b>\"q\"",
    b"https://example.com/&url=https://example.org/",
    b"https://example.com/?x=1?y=2&amp;z=3",
    b"https://example.com/%00%0d%0aSet-Cookie:a=b",
    b"https://example.com/" + b"x" * 12_000,
    b"javascript:alert(1)",
    b"",
)  # fmt: skip
NAVIGATION = "performance.getEntriesByType('navigation')[0].nextHopProtocol"


def addresses_of(front: Front, tenant: str) -> tuple[str, ...]:
    """Each way a hit can come: pixels with `.gif` and without, signed ones, and clicks."""
    bell = front.bell
    bell.create(tenant)
    url = "https%3A%2F%2Fexample.com%2F"
    links = bell.get(f"/{tenant}/click-url/1?url={url}").json
    signed = bell.ask("POST", f"/{tenant}/emails", {"html": "<p>Hello"}).json
    return (
        f"/{tenant}/pixel/1.gif",
        f"/{tenant}/pixel/1",
        *(
            address.removeprefix(bell.settings["BASE_URL"])
            for address in (signed["tracking_pixel_url"], links["signed_url"], links["click_url"])
        ),
        f"/{tenant}/click/1?url={url}",
    )


def clients_keep_their_addresses(front: Front) -> None:
    """Each client is stored under its own address, whatever it says of itself."""
    tenant = fresh_tenant()
    targets = addresses_of(front, tenant)
    expected = []
    for source in CLIENTS:
        for target in targets:
            assert front.send(head(target), source).status in (200, 302)
            assert front.send(head(target, *LIES), source).status in (200, 302)
            expected += [source] * 2
    assert stored(front.bell, tenant) == expected


def answers_are_the_bells_own(front: Front) -> None:
    """Byte by byte, header by header."""
    tenant = fresh_tenant()
    for target in addresses_of(front, tenant):
        through, direct = front.both(head(target))
        assert through == direct
        assert direct.status in (200, 302)
        through, direct = front.both(head(target, method="HEAD"))
        assert through == direct
    pixel = front.send(head(f"/{tenant}/pixel/1.gif", "Accept-Encoding: gzip, br"))
    assert pixel.headers["content-type"] == "image/gif"
    assert "no-store" in pixel.headers["cache-control"]
    assert "content-encoding" not in pixel.headers
    assert int(pixel.headers["content-length"]) == len(pixel.body)
    for target, status in (
        (f"/{tenant}/pixel/99.gif", 200),
        (f"/{tenant}/click/99?url=https://example.com/", 404),
        (f"/{tenant}/click/1", 400),
        (f"/{tenant}/emails?limit=x", 400),
        (f"/{tenant}/emails/77", 404),
        ("/nothing/at/all/there", 404),
        (f"/{tenant}", 302),
        ("/openapi.json", 200),
        ("/", 200),
    ):
        for more in ((), ("Accept-Encoding: gzip, br",)):
            through, direct = front.both(head(target, *more))
            assert (through, direct.status) == (direct, status), target


def pages_stay_compressed_and_known(front: Front) -> None:
    """What the bell compressed stays so, under its ETag, and 304 comes through."""
    target = f"/{fresh_tenant()}/dashboard/login"
    page = front.send(head("/", "Accept-Encoding: gzip"))
    assert page.headers["content-encoding"] == "gzip"
    assert page.headers["etag"].startswith('"')
    known = f"If-None-Match: {page.headers['etag']}"
    again = front.send(head("/", "Accept-Encoding: gzip", known), head_only=True)
    assert (again.status, again.headers["etag"]) == (304, page.headers["etag"])
    assert front.send(head(target)).status == front.direct(head(target)).status


def no_byte_of_an_address_is_changed(front: Front) -> None:
    """Targets in queries, and paths with odd bytes."""
    tenant = fresh_tenant()
    front.bell.create(tenant, recipient="a/b+c;d@example.com")
    leads = 0
    for value in ODD:
        through, direct = front.both(head(f"/{tenant}/click/1?url=".encode() + value))
        assert through == direct, value
        leads += direct.status == 302
    assert leads > 8
    for path in (
        f"/{tenant}/recipients/a%2Fb+c%3Bd%40example.com",
        f"/{tenant}/recipients/a%2Fb%2Bc;d@example.com",
        f"/{tenant}//pixel/1.gif",
        f"//{tenant}/pixel/1.gif",
        f"/{tenant}/./pixel/1.gif",
        f"/{tenant}/x/../pixel/1.gif",
        f"/{tenant}/pixel/%31.gif",
        f"/{tenant}/pixel/1.gif?",
        f"/{tenant}/pixel/1.gif?;=&&+",
        f"/{tenant}/pixel%2F1.gif",
        f"/{tenant}/pixel/1+.gif",
    ):
        through, direct = front.both(head(path))
        assert through == direct, path
    found = front.send(head(f"/{tenant}/recipients/a%2Fb+c%3Bd%40example.com"))
    assert found.json["recipient"] == "a/b+c;d@example.com"


def plain_http_leads_to_https(front: Front) -> None:
    """With the address as it came, and the same method."""
    target = b"/acme/click/1?url=https%3A%2F%2Fexample.com%2Fa%252Fb;c+d"
    with Line(front.plain_port, "::1") as line:
        line.send(head(target))
        answer = line.answer()
    assert answer.status == 308
    found = re.fullmatch(rf"https://{SITE}(:\d+)?(/.*)", answer.headers["location"])
    assert found
    assert found[2].encode() == target


def large_bodies_come_through(front: Front) -> None:
    """Many emails with a length and in chunks, whole messages; and what the bell refuses."""
    tenant = fresh_tenant()
    body = some(20_000)
    answer = front.send(sent(f"/{tenant}/emails", body, kind=NDJSON))
    assert answer.status == 201
    assert answer.body.count(b"\n") == 20_000
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(piece), piece)
        for piece in (body[at : at + 50_000] for at in range(0, len(body), 50_000))
    )
    more = (f"Content-Type: {NDJSON}", "Transfer-Encoding: chunked")
    answer = front.send(head(f"/{tenant}/emails", *more, method="POST") + pieces + b"0\r\n\r\n")
    assert answer.status == 201
    assert [last for (last,) in last_emails(front.bell, tenant)] == [40_000]
    mail = b"Subject: Hello\r\nContent-Type: text/html\r\n\r\n" + b"<p>Hello</p>\r\n" * 100_000
    answer = front.send(sent(f"/{tenant}/messages", mail, kind="message/rfc822"))
    assert answer.status == 201
    assert len(answer.body) > len(mail)


def last_emails(bell: Bell, tenant: str) -> list[tuple[int]]:
    return bell.rows("SELECT last_email FROM tenants WHERE name = ?", tenant)


def refusals_are_the_bells_own(front: Front) -> None:
    """400 and 413, also where the answer comes before the body is there."""
    tenant = fresh_tenant()
    front.bell.create(tenant)
    for data, status in (
        (sent(f"/{tenant}/emails", b"{"), 400),
        (sent(f"/{tenant}/emails", b'{"subject": "%b"}' % (b"x" * 70_000)), 413),
        (sent(f"/{tenant}/emails", some(3) + b"{}{\n", kind=NDJSON), 400),
        (sent(f"/{tenant}/emails", some(110_000), kind=NDJSON), 413),
        (sent(f"/{tenant}/emails", b"", "Authorization: Bearer wrong"), 201),
        (head(f"/{tenant}/pixel/1.gif", method="DELETE"), 405),
    ):
        through, direct = front.both(data)
        assert (through.status, direct.status) == (status, status), data[:80]
        if status != 201:
            assert through == direct


def exports_flow(front: Front) -> None:
    """A long answer is whole, and waits for its client nowhere but in memory."""
    tenant = fresh_tenant()
    emails = [{"subject": "x" * 900, "recipient": f"u{n}@example.com"} for n in range(8_000)]
    assert front.direct(sent(f"/{tenant}/emails", lines(emails), kind=NDJSON)).status == 201
    export = front.bell.ask("GET", f"/{tenant}/emails.csv").body
    assert len(export) > 7 << 20
    with front.line() as line:
        line.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        line.send(head(f"/{tenant}/emails.csv"))
        time.sleep(0.5)  # a client that does not read: sockets hold some of it, files none
        assert front.spooled() == []
        answer = HTTPResponse(line.socket)
        answer.begin()
        assert answer.read() == export


def uploads_flow(front: Front) -> None:
    """Half of a batch is at the bell before the rest is sent, and nowhere else."""
    tenant = fresh_tenant()
    body = sent(f"/{tenant}/emails", some(20_000), kind=NDJSON)
    with front.line() as line:
        line.send(body[: len(body) // 2])
        time.sleep(0.3)
        assert front.spooled() == []
        line.send(body[len(body) // 2 :])
        assert line.answer().status == 201


def connections_to_the_bell_are_kept(front: Front) -> None:
    before = front.bell.metrics()["connections_total"]
    for _ in range(40):
        assert front.send(head("/health")).status == 200
    assert front.bell.metrics()["connections_total"] - before < 10


def the_log_shortens_addresses(front: Front) -> None:
    """It names no recipient, no target and no whole address."""
    tenant = fresh_tenant()
    front.bell.create(tenant)
    front.send(head(f"/{tenant}/recipients/who@example.com"), "127.0.0.3")
    front.send(head(f"/{tenant}/click/1?url=https://where.example/", "Referer: https://r.example/"))
    wait_until(lambda: front.log_file.read_text().count("127.0.0.0") >= 2)
    text = front.log_file.read_text()
    for secret in ("127.0.0.2", "127.0.0.3", "who@", "where.example", "r.example", "Mozilla"):
        assert secret not in text, secret


def the_dashboard_works(front: Front, browser: Browser) -> None:
    """In a real browser, through TLS and HTTP/2: a key, a session, a form; from its own address."""
    tenant = fresh_tenant()
    front.bell.create(tenant, subject="Hello")
    key = create_key(front.bell, tenant)
    assert front.send(head(f"/{tenant}/emails", *auth(key))).status == 200
    with visiting(browser, ignore_https_errors=True) as visit:
        page = visit.page
        page.goto(f"{front.origin}/{tenant}/dashboard")
        expect(page.locator("h1")).to_have_text(f"{tenant} needs a key")
        page.fill("#key", key)
        page.click("text=Log in")
        expect(page.locator(".live")).to_contain_text("updated")
        assert page.evaluate(NAVIGATION) == "h2"
        [cookie] = page.context.cookies()
        assert (cookie["name"], cookie["secure"]) == ("__Secure-lb_session", True)
        page.locator("form.try button", has_text="Try it").first.click()
        page.wait_for_url(f"**/{tenant}/dashboard/emails/2**")
        wait_until(lambda: stored(front.bell, tenant))  # the page opens what it created
        page.click("text=Log out")
        page.wait_for_url("**/dashboard/login")
        visit.check(front.origin)
    assert front.send(forged(tenant, key, "https://evil.example")).status == 403
    assert front.send(forged(tenant, key, front.origin)).status == 303


def auth(key: str) -> list[str]:
    return [f"{name}: {value}" for name, value in bearer(key).items()]


def forged(tenant: str, key: str, origin: str) -> bytes:
    """A form sent by a browser that says Origin alone, as over plain http."""
    form = f"key={key}".encode()
    kind = "application/x-www-form-urlencoded"
    return sent(f"/{tenant}/dashboard/login", form, f"Origin: {origin}", kind=kind)


def hits(front: Front) -> list[str]:
    """What is stored of two clients' opens and one click each."""
    tenant = fresh_tenant()
    front.bell.create(tenant)
    for source in CLIENTS[:2]:
        assert front.send(head(f"/{tenant}/pixel/1.gif"), source).status == 200
        target = f"/{tenant}/click/1?url=https://example.com/"
        assert front.send(head(target), source).status == 302
    return stored(front.bell, tenant)


def keeps_others_out(front: Front) -> None:
    """Management is for 127.0.0.3 alone; what mail holds is for all."""
    assert len(hits(front)) == 4
    tenant = fresh_tenant()
    front.bell.create(tenant)
    for target in (
        f"/{tenant}/emails",
        f"/{tenant}/dashboard",
        f"/{tenant}/dashboard/login",
        f"/{tenant}/recipients/ada@example.com",
        f"/{tenant}/pixel/../emails",
        f"/{tenant}/pixel/%2e%2e/emails",
        f"/{tenant}//emails",
        "/metrics",
        "/",
    ):
        assert front.send(head(target), "127.0.0.2").status == 403, target
    assert front.send(head(f"/{tenant}/emails"), "127.0.0.3").status == 200
    assert front.send(head("/health"), "127.0.0.2").status == 200
    # What looks public to the proxy is nothing else to the bell.
    for target in (
        f"/{tenant}/dashboard/..%2Fpixel%2F1",
        f"/{tenant}/emails/..%2Fpixel%2F1",
        f"/{tenant}/emails/../pixel/1",
    ):
        assert front.send(head(target), "127.0.0.2").status in (403, 404), target


def works_under_a_path(front: Front) -> None:
    answer = front.bell.ask("POST", "/acme/emails", {"recipient": "a/b@example.com"})
    pixel = answer.json["tracking_pixel_url"]
    assert pixel == f"{front.origin}/bell/acme/pixel/1.gif"
    assert front.send(head("/bell/acme/pixel/1.gif")).status == 200
    odd, target = "https://example.com/a%252Fb;c%2Bd", "https://example.com/a%2Fb;c+d"
    answer = front.send(head(f"/bell/acme/click/1?url={odd}"))
    assert answer.headers["location"] == target
    links = front.bell.get(f"/acme/click-url/1?url={odd}").json
    signed = links["signed_url"].removeprefix(front.origin)
    assert front.send(head(signed)).headers["location"] == target
    assert front.send(head("/bell/acme")).headers["location"] == "/bell/acme/dashboard"
    page = front.send(head("/bell/acme/dashboard"))
    assert page.status == 200
    assert b'"/bell/-/' in page.body
    assert stored(front.bell, "acme") == ["127.0.0.2"] * 3


CHECKS: tuple[Callable[[Front], None], ...] = (
    clients_keep_their_addresses,
    answers_are_the_bells_own,
    pages_stay_compressed_and_known,
    no_byte_of_an_address_is_changed,
    plain_http_leads_to_https,
    large_bodies_come_through,
    refusals_are_the_bells_own,
    exports_flow,
    uploads_flow,
    connections_to_the_bell_are_kept,
    the_log_shortens_addresses,
)
every_check = pytest.mark.parametrize("check", CHECKS, ids=[one.__name__ for one in CHECKS])
