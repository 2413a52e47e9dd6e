"""Hostile link targets in a real Chromium: whatever the bell redirects, the browser ends on the
host that was signed or recorded, and on no other"""

import random
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from threading import Thread
from typing import NamedTuple
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, Request, sync_playwright
from playwright.sync_api import Error as BrowserError

import signatures
from bell import Answer, Bell, Line, raw_request, serving
from browser import CHROMIUM, needs_chromium

pytestmark = needs_chromium

KEY = "a-key-that-signs-links-in-tests"
BELL = "bell.test"  # as the browser knows it
HREF = re.compile(r"(https?)://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]+)?/[!-~]*")
PORT = re.compile(r":[0-9]*$")
OWN = ("google.com", "googleapis.com", "gstatic.com", "gvt1.com")  # whom Chromium asks by itself
SEED = 20261124

# Forms in which links were bent elsewhere, and of browsers' own reading of them.
KNOWN = (
    r"https://good.example\@evil.example",
    r"https://good.example\\@evil.example/",
    r"https:\\evil.example",
    r"https:/\evil.example",
    r"\\evil.example",
    r"\/\/evil.example",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:////evil.example",
    "//evil.example",
    "///evil.example",
    "/evil.example",
    "evil.example",
    "?evil.example",
    "https://",
    "https:",
    "https://good.example:80@evil.example/",
    "https://good.example@evil.example",
    "https://good.example:@evil.example",
    "https://@evil.example",
    "https://:@evil.example/",
    "https://good.example%40evil.example",
    "https://good.example%5c@evil.example",
    "https://good.example%2f@evil.example",
    "https://good.example%23@evil.example",
    "https://good.example#@evil.example",
    "https://good.example?@evil.example",
    "https://good.example/@evil.example",
    "https://good.example/..//evil.example",
    "https://good.example//evil.example/%2f..",
    "https://good.example/\t/evil.example",
    "https://good.example;evil.example",
    "https://good.example,evil.example",
    "https://good.example evil.example",
    "https://good.example\tevil.example",
    "https://good.example\n.evil.example",
    "https://good.example\r\nLocation: https://evil.example/",
    "https://good.example/\r\nLocation: https://evil.example/",
    "https://good.example/%0d%0aLocation:%20https://evil.example/",
    "h\nttps://evil.example",
    "ht\ttp\rs:\n/\t/evil.example",
    "\x00https://evil.example",
    "\x1f https://evil.example \x07",
    "\ufeffhttps://evil.example",
    "\u00a0https://evil.example",
    "https://evil\u3002example",
    "https://evil\uff0eexample\uff0fpath",
    "https://\uff45\uff56\uff49\uff4c.example",
    "https://good.example\uff0fevil.example",
    "https://good.example\uff03@evil.example",
    "https://good.example\uff20evil.example",
    "https://good.example\uff3c@evil.example",
    "https://good.example\u2044evil.example",
    "https://good.example\u2100.evil.example",
    "https://e\u00advil.example",
    "https://e\u200dvil.example",
    "https://\u202emoc.live.example",
    "https://b\u00fccher.example",
    "https://fa\u00df.example",
    "https://xn--fa-hia.example",
    "https://xn--a.example",
    "https://%65%76%69%6c.example",
    "https://%ef%bd%85vil.example",
    "https://evil%2eexample",
    "https://evil.example%00.good.example",
    "https://evil.example%20.good.example",
    "http://127.1",
    "http://0x7f.1",
    "http://0x7f.0x0.0x0.0x1/",
    "http://2130706433",
    "http://017700000001",
    "http://0177.0.0.01",
    "http://127.0.0.1.",
    "http://0x7f000001.",
    "http://1.2.3.4.5",
    "http://256.1.1.1",
    "http://4294967296",
    "http://1.2.3.0x",
    "http://[::1]",
    "http://[::ffff:127.0.0.1]",
    "http://[0:0:0:0:0:0:7f00:1]:81/",
    "http://[::1%25eth0]",
    "http://[::1",
    "http://::1/",
    "https://evil.example:443",
    "https://evil.example:0443/",
    "https://evil.example:65536",
    "https://evil.example:-1",
    "https://evil.example:80:80",
    "https://evil.example:80@good.example",
    "https://evil.example:8\t0/",
    "https://evil.example:\uff18\uff10/",
    "https://evil.example:",
    "https://evil.example.",
    "https://evil.example..",
    "https://.evil.example",
    "https://e_vil.example",
    "https://-evil.example",
    "https://*.evil.example",
    "https://evil!.example",
    "https://evil'.example",
    "https://evil|.example",
    "https://evil^.example",
    "https://evil<.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\nscript:alert(1)",
    "\x01javascript:alert(1)",
    "javascript://good.example/%0aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "blob:https://evil.example/1",
    "filesystem:https://evil.example/1",
    "view-source:https://evil.example",
    "about:blank",
    "ftp://evil.example",
    "ws://evil.example",
    "https;//evil.example",
    "https.//evil.example",
    "https//evil.example",
    "http:https://evil.example",
    "https:http:evil.example",
    "https://https://evil.example",
    "https://https:evil.example",
    'https://good.example/"><script>alert(1)</script>',
    "https://good.example/?next=https://evil.example/#@evil.example",
    "https://good.example/#\\@evil.example",
    "https://good.example/" + "a" * 2100,
    "https://" + "a" * 300 + ".example/",
)

SCHEMES = (
    "https:", "https:", "https:", "http:", "http:", "HTTPS:", "hTTp:", "", "\thttps:", "htt\nps:",
    " https:", "\x00http:", "javascript:", "data:", "ftp:", "https;", "\uff48ttps:", "wss:", "x:",
)  # fmt: skip
SLASHES = (
    "//", "//", "//", "//", "", "/", "///", "\\\\", "/\\", "\\/", "/\t/", "\n//", "////", "\\",
)  # fmt: skip
USERS = (
    "", "", "", "", "", "good.example@", "good.example:x@", "good.example\\@", "good.example\\",
    "@", ":@", "good.example%40", "good.example%5c", "good.example#@", "good.example?@",
    "good.example/@", "good.example;", "good.example\t@", "good.example\uff20",
    "good.example\uff3c", "[::1]@", "a b@",
)  # fmt: skip
HOSTS = (
    "evil.example", "evil.example", "EVIL.Example", "evil.example.", "evil\u3002example", "127.1",
    "\uff45\uff56\uff49\uff4c.example", "\u24d4\u24e5\u24d8\u24db.example", "%65vil.example",
    "evil%2Eexample", "good.example.evil.example", "evil.example%00", "evil.example%23x",
    "0x7f.1", "2130706433", "017700000001", "0x7F000001", "127.0.0.1", "0", "1.2.3", "1.2.3.4.5",
    "[::1]", "[::ffff:7f00:1]", "[1::2::3]", "xn--bcher-kva.example", "b\u00fccher.example",
    "fa\u00df.example", "\ufb01.example", "e\u00advil.example", "e\u200bvil.example",
    "a_b.example", "a..example", "", ".", "localhost", "evil", "evil\texample", "evil .example",
    "ev|il.example", "\u0661.example", "evil.example\uff0f", "evil\uff0eexample",
    "!$&'()*+,;=.example", "~.example", "evil.example%2f",
)  # fmt: skip
PORTS = (
    "", "", "", "", ":80", ":443", ":8443", ":0", ":65535", ":65536", ":-1", ":080", ":", ": 80",
    ":8x", ":@good.example", ":\uff18\uff10", ":8\n0", ":80:80",
)  # fmt: skip
TAILS = (
    "", "/", "/x", "\\x", "/..//good.example", "//good.example", "/\t/good.example",
    "?good.example", "?@good.example/", "#@good.example/", "#\\good.example", ";@good.example",
    "/@good.example", "\\@good.example", "/%2f%2fgood.example", "/%0d%0aX:y", "/\r\nX: y",
    "/\x00", "/\u00fc?\u00fc#\u00fc", "/a b", "/%", "/%zz", "/\U0001f514", "@",
)  # fmt: skip
SPLINTERS = (
    "\\", "/", "\t", "\r", "\n", "\x00", " ", "@", ":", "#", "?", "%40", "%5C", "%2F", "%00",
    "%0a", "\u3002", "\uff0f", "\uff20", "\uff3c", "\u00ad", "\u200d", "\ufeff", "\u202e",
    "%E3%80%82", "[", "]", "|", "^", "<", '"', "'", ";", "..", "xn--",
)  # fmt: skip


def hostile(count: int) -> list[str]:
    """So many targets: put together of parts, and the known ones with a splinter or two in them."""
    source = random.Random(SEED)
    found = []
    for n in range(count):
        if n % 3:
            parts = (SCHEMES, SLASHES, USERS, HOSTS, PORTS, TAILS)
            url = "".join(source.choice(part) for part in parts)
        else:
            url = source.choice(KNOWN)[:200]
        for _ in range(source.choice((0, 0, 0, 1, 2)) + (n % 3 == 0)):
            at = source.randint(0, len(url))
            url = url[:at] + source.choice(SPLINTERS) + url[at + source.randint(0, 1) :]
        found.append(url)
    return found


class Way(NamedTuple):
    """A path that a browser may follow, and where the bell says it leads, if anywhere."""

    url: str  # as it was given
    path: str
    location: str | None

    @property
    def host(self) -> str | None:
        """The host of the location, read without a parser of URLs: it has one form alone."""
        if self.location is None:
            return None
        found = HREF.fullmatch(self.location)
        assert found, f"{self.url!r} leads to {self.location!r}, which has another form"
        return found[2]


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    bounds = {"MAX_HITS_PER_EMAIL_HOUR": "1000000", "MAX_NEW_LINKS_PER_HOUR": "1000000"}
    folder = tmp_path_factory.mktemp("urls")
    with serving(folder, SECRET_KEY=KEY, BASE_URL=f"http://{BELL}", **bounds) as bell:
        yield bell


@pytest.fixture(scope="module")
def ways(bell: Bell, soak: bool) -> list[Way]:
    """All ways of all targets: unsigned, by `click-url`, and signed as they are."""
    bell.create()
    return follow(bell, [*KNOWN, *hostile(2000 if soak else 500)])


def ask(bell: Bell, paths: list[str]) -> list[Answer]:
    """Many GETs in pipelines."""
    answers = []
    with Line(bell.port) as line:
        for at in range(0, len(paths), 20):
            some = paths[at : at + 20]
            line.send(b"".join(raw_request(path) for path in some))
            answers += [line.answer() for _ in some]
    return answers


def follow(bell: Bell, urls: list[str]) -> list[Way]:
    queries = [quote(url, safe="") for url in urls]
    paths = [(url, f"/acme/click/1?url={query}") for url, query in zip(urls, queries, strict=True)]
    made = ask(bell, [f"/acme/click-url/1?url={query}" for query in queries])
    for url, answer in zip(urls, made, strict=True):
        assert answer.status in (200, 400), url
        if answer.status == 200:
            forms = (answer.json[name] for name in ("click_url", "signed_url"))
            paths += [(url, form.removeprefix(f"http://{BELL}")) for form in forms]
    paths += [(url, f"/acme/l/1/{signatures.token(KEY.encode(), 'acme', 1, url)}") for url in urls]
    found = []
    for (url, path), answer in zip(paths, ask(bell, [path for _, path in paths]), strict=True):
        assert answer.status in (200, 302, 400, 404), (url, answer)
        assert ("location" in answer.headers) == (answer.status == 302)
        assert not {"x", "set-cookie", "refresh"} & set(answer.headers)
        found.append(Way(url, path, answer.headers.get("location")))
    return found


class Sink:
    """Takes every connection of the browser that is not the bell's, and notes whom it was for."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.hosts: list[str] = []

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            Thread(target=self.take, args=(client,), daemon=True).start()

    def take(self, client: socket.socket) -> None:
        with client:
            client.settimeout(5)
            try:
                data = client.recv(8192)
                if data[:1] == b"\x16":
                    self.hosts += server_names(data)
                elif data:
                    head = data.decode("latin-1").split("\r\n")
                    self.hosts += [one[6:] for one in head if one.lower().startswith("host: ")]
                    client.sendall(
                        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
            except OSError:
                pass


def server_names(hello: bytes) -> list[str]:
    """The names in a TLS ClientHello (RFC 6066 3); none where it is for an address."""
    try:
        at = 5 + 4 + 2 + 32
        at += 1 + hello[at]  # session
        at += 2 + struct.unpack_from(">H", hello, at)[0]  # ciphers
        at += 1 + hello[at]  # compression
        end = at + 2 + struct.unpack_from(">H", hello, at)[0]
        at += 2
        while at < end:
            kind, size = struct.unpack_from(">HH", hello, at)
            if kind == 0:
                return [hello[at + 9 : at + 4 + size].decode("ascii")]
            at += 4 + size
    except (IndexError, struct.error):
        pass
    return []


@contextmanager
def sinking() -> Iterator[Sink]:
    sink = Sink()
    thread = Thread(target=sink.run)
    thread.start()
    try:
        yield sink
    finally:
        sink.listener.shutdown(socket.SHUT_RDWR)
        sink.listener.close()
        thread.join()


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with sinking() as sink:
        yield sink


@pytest.fixture(scope="module")
def browser(bell: Bell, sink: Sink) -> Iterator[Browser]:
    """A Chromium for which every host but the bell's is the sink."""
    rules = f"MAP {BELL} 127.0.0.1:{bell.port}, MAP * 127.0.0.1:{sink.port}"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", f"--host-resolver-rules={rules}"],
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    context.set_default_timeout(10_000)
    page = context.new_page()
    page.goto(f"http://{BELL}/health")
    yield page
    context.close()


def test_the_targets_are_many_and_some_of_each_kind_lead_on(ways: list[Way]) -> None:
    assert len({way.url for way in ways}) > 500
    assert sum(way.location is not None for way in ways) > 300
    assert sum(way.location is None for way in ways) > 300
    assert {"good.example", "evil.example", "127.0.0.1", "[::1]"} <= {way.host for way in ways}


def test_what_is_sent_is_what_is_recorded(bell: Bell, ways: list[Way]) -> None:
    rows = bell.rows("SELECT url FROM events JOIN links USING (tenant, link) ORDER BY seq")
    assert [url for (url,) in rows] == [way.location for way in ways if way.location is not None]


def test_each_way_of_a_target_leads_to_the_same_place(ways: list[Way]) -> None:
    places: dict[str, set[str]] = {}
    for way in ways:
        if way.location is not None:
            places.setdefault(way.url, set()).add(way.location)
    assert {url: found for url, found in places.items() if len(found) > 1} == {}


def test_what_is_signed_as_it_is_leads_there_as_it_is(ways: list[Way]) -> None:
    for way in ways:
        token = signatures.token(KEY.encode(), "acme", 1, way.url)
        if way.path == f"/acme/l/1/{token}" and way.location is not None:
            assert way.location == way.url


def test_the_browser_reads_each_location_as_the_bell_does(page: Page, ways: list[Way]) -> None:
    locations = sorted({way.location for way in ways if way.location is not None})
    read = page.evaluate(
        """all => all.map(text => {
            const found = new URL(text, location.href);
            return [found.origin, found.username, found.password];
        })""",
        locations,
    )
    for location, (origin, user, password) in zip(locations, read, strict=True):
        assert location.startswith(origin + "/")
        assert (user, password) == ("", "")


def test_the_browser_takes_each_target_for_the_same_host(page: Page, ways: list[Way]) -> None:
    """As the sender's own browser reads it: nobody is surprised by where the link leads."""
    pairs = sorted({(way.url, way.host) for way in ways if way.host is not None})
    read = page.evaluate(
        "all => all.map(text => { try { return new URL(text).hostname } catch { return null } })",
        [url for url, _ in pairs],
    )
    for (url, host), found in zip(pairs, read, strict=True):
        assert found in (host, None), url  # None: its Unicode is of another year


class Trace:
    """Where each navigation that began at the bell went on to, by the path where it began."""

    def __init__(self, page: Page) -> None:
        self.hosts: dict[str, list[str]] = {}
        page.on("request", self.note)

    def note(self, request: Request) -> None:
        first = request
        while first.redirected_from is not None:
            first = first.redirected_from
        if request.is_navigation_request() and first.url.startswith(f"http://{BELL}/acme/"):
            host = request.url.partition("://")[2].partition("/")[0]
            path = first.url.removeprefix(f"http://{BELL}")
            self.hosts.setdefault(path, []).append(PORT.sub("", host))

    def check(self, way: Way) -> bool:
        """Whether a way led on: to the host that it says."""
        asked = self.hosts[way.path]
        assert asked[0] == BELL, way
        assert set(asked[1:]) == ({way.host} if way.host else set()), (way, asked)
        return len(asked) > 1


def check_sink(sink: Sink, ways: list[Way]) -> int:
    """Whose connections came: at most theirs."""
    hosts = {way.host for way in ways if way.host is not None}
    hosts |= {host.removesuffix(".") for host in hosts}  # as TLS names them
    met = {PORT.sub("", host).lower() for host in list(sink.hosts) if not host.endswith(OWN)}
    assert met <= hosts
    sink.hosts.clear()
    return len(met)


def test_the_browser_ends_where_the_bell_says(
    page: Page, sink: Sink, ways: list[Way], soak: bool
) -> None:
    """Many at a time, in frames."""
    trace = Trace(page)
    some = ways if soak else [*ways[: len(KNOWN)], *random.Random(SEED).sample(ways, 120)]
    some = list({way.path: way for way in some}.values())
    led = met = 0
    for at in range(0, len(some), 100):
        batch = some[at : at + 100]
        frames = "".join(
            f'<iframe src="http://{BELL}{escape(way.path)}"></iframe>' for way in batch
        )
        page.set_content(frames, wait_until="load")
        led += sum([trace.check(way) for way in batch])
        met += check_sink(sink, batch)
    assert led > 60
    assert met > 10
    page.goto("about:blank")


def test_a_page_that_follows_a_link_ends_there(
    page: Page, sink: Sink, ways: list[Way], soak: bool
) -> None:
    """One after the other, in the window itself, as a reader of mail does."""
    trace = Trace(page)
    sink.hosts.clear()
    some = random.Random(SEED + 1).sample(ways, 300 if soak else 20)
    led = 0
    for way in some:
        trace.hosts.clear()
        try:
            answer = page.goto(f"http://{BELL}{way.path}", wait_until="commit")
        except BrowserError:  # the sink speaks no TLS: then comes a page of the browser's own
            answer = None
            page.wait_for_url("chrome-error://**", wait_until="commit")
            page.goto("about:blank")
        led += trace.check(way)
        if way.host is None:
            assert answer is not None
            assert answer.url == f"http://{BELL}{way.path}"
    assert led > 4
    check_sink(sink, some)
