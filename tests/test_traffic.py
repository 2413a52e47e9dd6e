"""Traffic as it comes: each line of `traffic.tsv` sent to a server, and what its log says then;
each sequence of `sequences.tsv` at its times, by a writer."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from bell import Line, raw_request, serving
from little_bell.tracking.classify import classify_agent, classify_hit, reason_codes
from little_bell.tracking.clients import CLIENT, DEVICES, client_names, client_of
from little_bell.tracking.hit import CLICK, KINDS, OPEN, Hit, header_flags
from little_bell.tracking.rules import CLASSES, REASONS
from test_figures import NOON, Store

FOLDER = Path(__file__).parent
OWN = "203.0.113.7"
SOURCES = {"a": b"\xc0\x00\x02", "a2": b"\xc0\x00\x02", "b": b"\xc6\x33\x64", "c": b"\x0a\x00\x00"}

Stored = tuple[int, int, int, int]  # class, bits of reasons, flags, client


def lines_of(name: str) -> list[list[str]]:
    """The lines of a file of the tests, in columns, without comments."""
    text = (FOLDER / name).read_text()
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


class Request(NamedTuple):
    """One line of `traffic.tsv`."""

    kind: str
    user_agent: str
    headers: str
    class_: str
    agent: str
    reasons: str
    client: str
    device: str

    def raw(self, email: int) -> bytes:
        """The request as bytes."""
        what = "pixel/{}.gif" if self.kind == "open" else "click/{}?url=https://example.com/"
        headers = [header for header in self.headers.split(" | ") if header]
        if self.user_agent != "(absent)":
            headers.append(f"User-Agent: {self.user_agent}")
        return raw_request(f"/acme/{what.format(email)}", *headers)

    @property
    def sent_agent(self) -> str:
        return "" if self.user_agent == "(absent)" else self.user_agent


REQUESTS = [Request(*line) for line in lines_of("traffic.tsv")]
IDS = [f"{number}-{one.user_agent[-40:]}" for number, one in enumerate(REQUESTS, 1)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Stored]]:
    """What the log holds of each email once its line was sent: email n is that of line n."""
    with serving(tmp_path_factory.mktemp("traffic"), OWN_ADDRESSES=OWN, GPC="ignore") as bell:
        emails = json.dumps([{}] * len(REQUESTS))
        assert bell.ask("POST", "/acme/emails", emails).status == 201
        time.sleep(2.1)  # from now on no click is instant
        with Line(bell.port) as line:
            for email, request in enumerate(REQUESTS, 1):
                line.send(request.raw(email))
                assert line.answer().status == (200 if request.kind == "open" else 302), request
        rows = bell.rows(
            "SELECT email, kind, class, reasons, flags, client FROM events ORDER BY seq"
        )
        expected = [(n, KINDS.index(one.kind)) for n, one in enumerate(REQUESTS, 1)]
        assert [row[:2] for row in rows] == expected
        yield {row[0]: row[2:] for row in rows}


def test_the_file_is_whole() -> None:
    codes = [code for code, _ in REASONS]
    for one in REQUESTS:
        assert one.kind in ("open", "click"), one
        assert one.class_ in CLASSES, one
        assert one.client in CLIENT, one
        assert one.device in DEVICES, one
        reasons = one.reasons.split(",")
        assert reasons == sorted(set(reasons), key=codes.index), one
    assert {one.client for one in REQUESTS} == set(CLIENT)
    assert {one.class_ for one in REQUESTS} == set(CLASSES)
    assert {one.device for one in REQUESTS} == set(DEVICES)
    seen = {reason for one in REQUESTS for reason in one.reasons.split(",")}
    seen |= {reason for one in STEPS for reason in one.reasons.split(",")}
    assert seen == set(codes)
    keys = [one[:3] for one in REQUESTS]
    assert len(set(keys)) == len(keys), "a line twice"


@pytest.mark.parametrize("number", range(1, len(REQUESTS) + 1), ids=IDS)
def test_class_reasons_and_client_in_the_log(log: dict[int, Stored], number: int) -> None:
    one = REQUESTS[number - 1]
    class_, reasons, _, client = log[number]
    assert CLASSES[class_] == one.class_
    assert ",".join(reason_codes(reasons)) == one.reasons
    assert client_names(client) == (one.client, one.device)


@pytest.mark.parametrize("number", range(1, len(REQUESTS) + 1), ids=IDS)
def test_agent_client_and_device(log: dict[int, Stored], number: int) -> None:
    one = REQUESTS[number - 1]
    judged = classify_hit(classify_agent(one.sent_agent), log[number][2])
    assert judged.agent == one.agent
    assert client_names(client_of(one.sent_agent)) == (one.client, one.device)
    assert judged.client == client_of(one.sent_agent)


def test_privacy_signals_are_kept_as_flags(log: dict[int, Stored]) -> None:
    """They change no class, so only the flags say that they arrived."""
    found = 0
    for number, one in enumerate(REQUESTS, 1):
        pairs = [header.split(": ") for header in one.headers.split(" | ") if header]
        flags = header_flags({name.lower().encode(): value.encode() for name, value in pairs})
        assert log[number][2] & 7 == flags
        found |= flags
    assert found == 7


class Step(NamedTuple):
    """One line of `sequences.tsv`."""

    sequence: str
    at: str
    kind: str
    source: str
    link: str
    class_: str
    reasons: str


STEPS = [Step(*line) for line in lines_of("sequences.tsv")]
SEQUENCES = list(dict.fromkeys(step.sequence for step in STEPS))


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one tick"])
@pytest.mark.parametrize("sequence", SEQUENCES)
def test_sequences(tmp_path: Path, sequence: str, together: bool) -> None:
    steps = [step for step in STEPS if step.sequence == sequence]
    store = Store(tmp_path / "t.db")
    try:
        store.create()
        hits: list[Hit] = []
        for step in steps:
            kind = OPEN if step.kind == "open" else CLICK
            url = f"https://example.com/{step.link}" if step.link else None
            hits.append(store.hit(1, kind, int(step.at), url=url, address=SOURCES[step.source]))
        for batch in [hits] if together else [[hit] for hit in hits]:
            store.write(*batch)
        rows = store.rows("SELECT at, class, reasons FROM events ORDER BY seq")
    finally:
        store.writer.close()
    assert [
        (at - NOON, CLASSES[class_], reason_codes(reasons)) for at, class_, reasons in rows
    ] == [(int(step.at), step.class_, tuple(step.reasons.split(","))) for step in steps]
