"""Fuzzing of what reaches the database: user agents, links, ids and emails of any content.

Behind each comes an open of others in the same pipeline. Seeds are fixed; a failure shows the
request.
"""

import json
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple
from urllib.parse import quote, quote_from_bytes

import pytest

from bell import Answer, Bell, Line, events, fresh_tenant, raw_request, serving
from hostile import GENEROUS, is_sound, mutated

AT_ONCE = 5  # connections that send in the same moment
EACH = 3  # requests of each


@pytest.fixture(scope="module")
def bell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("values"), MAX_BODY_BYTES="1000000", **GENEROUS) as bell:
        yield bell
        is_sound(bell)


class Told(NamedTuple):
    """A request, and what it may be answered with."""

    request: bytes
    statuses: tuple[int, ...]


def tell(bell: Bell, requests: list[Told]) -> list[Answer]:
    """Send requests in pipelines on several connections at once, an open of others behind each.

    Returns the answers in order; all that the others opened is counted.
    """
    other = fresh_tenant()
    bell.create(other)
    opening = raw_request(f"/{other}/pixel/1.gif")
    answers: list[Answer] = []
    pipelines = [requests[at : at + EACH] for at in range(0, len(requests), EACH)]
    for at in range(0, len(pipelines), AT_ONCE):
        together = pipelines[at : at + AT_ONCE]
        with ExitStack() as clients:
            lines = [clients.enter_context(Line(bell.port)) for _ in together]
            for line, pipeline in zip(lines, together, strict=True):
                line.send(b"".join(told.request + opening for told in pipeline))
            for line, pipeline in zip(lines, together, strict=True):
                for told in pipeline:
                    answer = line.answer()
                    assert answer.status in told.statuses, (answer, told)
                    answers.append(answer)
                    assert line.answer().headers["content-type"] == "image/gif", told
    assert len(events(bell, other)) == len(requests)
    return answers


def any_text(source: random.Random, most: int) -> str:
    """Characters of every plane, and of the first ones most of all; no halves of a pair."""
    ends = (0x80, 0x80, 0x800, 0x10000, 0x110000)
    numbers = [source.randrange(source.choice(ends)) for _ in range(source.randint(0, most))]
    return "".join(chr(n) for n in numbers if not 0xD800 <= n < 0xE000)


def how_many(soak: bool) -> int:
    return 100_000 if soak else 3000


def test_user_agents_of_any_bytes(bell: Bell, soak: bool) -> None:
    source = random.Random(1)
    tenant = fresh_tenant()
    bell.create(tenant)
    agents = []
    for _ in range(how_many(soak)):
        size = source.choice([0, 5, 50, 511, 512, 513, 2000])
        raw = source.choice([source.randbytes(size), any_text(source, size).encode()])
        agents.append(bytes(byte for byte in raw if byte >= 32 and byte != 127).strip(b" \t"))
    told = [
        Told(raw_request(f"/{tenant}/pixel/1.gif", f"User-Agent: {a.decode('latin-1')}"), (200,))
        for a in agents
    ]
    tell(bell, told)
    stored = bell.rows(
        "SELECT user_agent FROM tenants JOIN events USING (tenant) "
        "JOIN agents USING (tenant, agent) WHERE name = ?",
        tenant,
    )
    assert len(stored) == len(agents)
    kept = {text for (text,) in stored}
    assert all(len(text.encode("utf-8")) <= 512 for text in kept if text)
    whole = {as_text(agent) for agent in agents if len(agent) <= 512} - {None, ""}
    assert len(whole) > len(agents) / 10
    assert whole <= kept


def as_text(raw: bytes) -> str | None:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return None


def test_links_of_any_characters(bell: Bell, soak: bool) -> None:
    source = random.Random(2)
    tenant = fresh_tenant()
    bell.create(tenant)
    told = []
    for _ in range(how_many(soak)):
        start = source.choice(["https://example.com/", "http://x/?", "https://", "HTTP:", ""])
        raw = (start + any_text(source, 300)).encode("utf-8")
        if source.random() < 0.1:
            raw += source.choice([b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
        target = f"/{tenant}/click/1?url={quote_from_bytes(raw, safe='')}"
        told.append(Told(raw_request(target), (302, 400)))
    answers = tell(bell, told)
    links = [answer.headers["location"] for answer in answers if answer.status == 302]
    assert len(links) > len(answers) / 4
    assert all(link.isascii() and link.startswith(("http://", "https://")) for link in links)
    stored = bell.rows(
        "SELECT url FROM tenants JOIN events AS e USING (tenant) "
        "JOIN links USING (tenant, link) WHERE name = ?",
        tenant,
    )
    assert sorted(url for (url,) in stored) == sorted(links)


def test_ids_of_any_form(bell: Bell, soak: bool) -> None:
    source = random.Random(3)
    tenant = fresh_tenant()
    for _ in range(9):
        bell.create(tenant)
    letters = "0123456789" * 3 + "+-_.,%exGIFgif\u0663\xb2\xbd"
    ids = ["".join(source.choices(letters, k=source.randint(0, 20))) for _ in range(how_many(soak))]
    ids += [f"{n}{end}" for n in range(-2, 12) for end in ("", ".gif", ".GIF", "%", ".gif.gif")]
    ids = [quote(one, safe="%+,") for one in ids]
    told = [Told(raw_request(f"/{tenant}/pixel/{one}"), (200,)) for one in ids]
    tell(bell, told)
    issued = {f"{n}{end}" for n in range(1, 10) for end in ("", ".gif")}
    expected = sorted(int(one.removesuffix(".gif")) for one in ids if one in issued)
    assert sorted(email for email, _ in events(bell, tenant)) == expected


def any_value(source: random.Random, depth: int) -> str:
    """A JSON value of any kind, as text; some are no JSON."""
    kind = source.randrange(12 if depth else 10)
    if kind < 4:
        escapes = ["\\ud800", "\\udc00", "\\u0000", "\\ud83d\\ude00", "\\n", "\\", "\x00", "\ufeff"]
        text = json.dumps(any_text(source, 40), ensure_ascii=source.random() < 0.5)
        return text[:-1] + "".join(source.choices(escapes, k=source.choice([0, 0, 1, 2]))) + '"'
    if kind < 10:
        odd = ["null", "true", "1e999", "-0", "9" * 400, "9" * 5000, "NaN", "Infinity", "0x1", "1."]
        return source.choice([*odd, '"' + "x" * 1200 + '"', "[" * 2000 + "]" * 2000])
    if kind == 10:
        return "[" + ",".join(any_value(source, depth - 1) for _ in range(3)) + "]"
    return any_object(source, depth - 1)


def any_object(source: random.Random, depth: int) -> str:
    names = ["subject", "recipient", "campaign", "metadata", "metadata", "\\ud800", "", "Subject"]
    weights = [9, 9, 9, 9, 9, 1, 1, 1]
    members = []
    for name in source.choices(names, weights, k=source.choice([0, 1, 1, 2, 4])):
        if name == "metadata" and depth and source.random() < 0.8:
            value = any_object(source, 0)
        else:
            value = any_value(source, depth)
        members.append(f'"{name}": {value}')
    return "{" + ", ".join(members) + "}"


def test_emails_of_any_json(bell: Bell, soak: bool) -> None:
    source = random.Random(4)
    tenant = fresh_tenant()
    told = []
    for _ in range(how_many(soak)):
        body = any_object(source, 3).encode("utf-8", "surrogatepass")
        if source.random() < 0.2:
            body = mutated(source, body)
        target = f"/{tenant}/emails"
        request = raw_request(target, method="POST", body=body)
        told.append(Told(request, (201, 400)))
    answers = tell(bell, told)
    created: list[Any] = [one.json["email_id"] for one in answers if one.status == 201]
    assert len(created) > len(answers) / 10
    assert sorted(created) == list(range(1, len(created) + 1))
    rows = bell.rows(
        "SELECT email, subject, recipient, metadata FROM emails JOIN tenants USING (tenant) "
        "WHERE name = ?",
        tenant,
    )
    assert sorted(email for email, *_ in rows) == sorted(created)
    for _, *texts, metadata in rows:
        texts += [text for pair in json.loads(metadata or "{}").items() for text in pair]
        assert not any("\0" in text for text in texts if text)
    assert bell.get(f"/{tenant}/dashboard").status == 200
