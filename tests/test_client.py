"""The Python library with a real bell: calls, batches, threads, connections, tries"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from bell import Bell, fresh_tenant, serving, wait_until
from little_bell import BellError, Client, Unreachable
from little_bell.client import Created, answers
from little_bell.client.answers import Texts
from programs import free_port
from scripted import forward, header_of, scripted

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bell]:
    with serving(tmp_path_factory.mktemp("bell")) as bell:
        yield bell


@pytest.fixture
def client(shared: Bell) -> Iterator[Client]:
    with Client(f"http://localhost:{shared.port}", fresh_tenant()) as client:
        yield client


# Calls


def test_it_works(client: Client) -> None:
    created = client.create(
        subject="Hello", recipient="ada@example.com", campaign="spring", metadata={"order": "7"}
    )
    assert created.email_id == 1
    assert created.tracking_pixel_url.endswith(f"/{client.tenant}/pixel/1.gif")
    email = client.email(1)
    assert (email["subject"], email["campaign"]) == ("Hello", "spring")
    assert (email["metadata"], email["events"]) == ({"order": "7"}, [])
    assert client.stats()["figures"]["sent"] == 1


def test_an_open_and_a_click_are_read(client: Client, shared: Bell) -> None:
    created = client.create(recipient="ada@example.com", campaign="spring")
    link = client.click_url(created.email_id, "https://example.com/?a=1&b=2", label="Shop")
    for address in (created.tracking_pixel_url, link):
        shared.get("/" + address.split("/", 3)[3])
    opened, clicked = client.events(after=0)
    assert (opened["kind"], clicked["kind"]) == ("open", "click")
    assert (clicked["url"], clicked["label"]) == ("https://example.com/?a=1&b=2", "Shop")
    assert [one["id"] for one in client.events()] == [2, 1]
    assert [one["id"] for one in client.events(kind="click", email=1)] == [2]
    assert list(client.events(class_="proxy")) == []
    [link_figures] = client.links()
    assert (link_figures["url"], link_figures["label"]) == ("https://example.com/?a=1&b=2", "Shop")
    assert [one["campaign"] for one in client.campaigns(top=True)] == ["spring"]
    assert {one["client"] for one in client.clients()} == {"chrome"}


def test_a_period(client: Client) -> None:
    client.create()
    today = datetime.now(UTC)
    stats = client.stats(date(2026, 1, 1), today, interval="day", tz="Europe/Berlin")
    assert stats["series"] is not None
    assert stats["series"][-1]["sent"] == 1
    assert (stats["from"], stats["tz"]) == ("2025-12-31T23:00:00Z", "Europe/Berlin")
    assert client.stats(to=date(2000, 1, 1))["figures"]["sent"] == 0
    with pytest.raises(ValueError, match="time zone"):
        client.stats(datetime(2026, 1, 1))


def test_changes(client: Client) -> None:
    client.create(subject="a", campaign="spring")
    assert client.change(1, subject=None, campaign="summer")["campaign"] == "summer"
    assert client.email(1)["subject"] is None
    client.delete(1)
    with pytest.raises(BellError) as caught:
        client.email(1)
    assert (caught.value.status, caught.value.title) == (404, "Not Found")


def test_opting_out_and_in(client: Client) -> None:
    client.create(recipient="ada+x/y@example.com")
    client.opt_out("ada+x/y@example.com")
    assert client.get("optouts", "ada+x/y@example.com")["opted_out"] is True
    client.opt_in("ada+x/y@example.com")
    assert client.get("optouts", "ada+x/y@example.com")["opted_out"] is False


def test_a_refusal_says_what_is_wrong(client: Client) -> None:
    with pytest.raises(BellError, match="subject is not a string") as caught:
        client.create(subject=3)  # type: ignore[arg-type]
    error = caught.value
    assert (error.status, error.field, error.type) == (400, "subject", "about:blank")
    with pytest.raises(BellError, match="unknown field 'sujet'"):
        client.create(sujet="x")  # type: ignore[call-arg]
    client.create()
    with pytest.raises(BellError, match="tz is not the name"):
        client.stats(tz="Europe/Nowhere")


def test_pages_are_asked_for_as_they_are_read(client: Client, shared: Bell) -> None:
    total = len(list(client.create_many({"subject": str(n)} for n in range(450))))
    assert total == 450
    rows = client.emails()
    first = next(rows)
    assert first["subject"] == "449"
    later = client.create(subject="450")  # on no page that is still to come
    rest = [one["email_id"] for one in rows]
    assert rest == list(range(449, 0, -1))
    assert later.email_id not in rest
    assert [one["subject"] for one in client.emails(subject="44", opened="no")][:2] == [
        "449",
        "448",
    ]


def test_what_comes_back_has_the_documented_members() -> None:
    document = json.loads((ROOT / "src/little_bell/api/openapi.json").read_text())
    names = {
        "Email": answers.Email,
        "EmailWithEvents": answers.EmailWithEvents,
        "Event": answers.Event,
        "Figures": answers.Figures,
        "Interval": answers.Interval,
        "Link": answers.LinkFigures,
        "Campaign": answers.CampaignFigures,
        "Client": answers.ClientFigures,
        "Stats": answers.Stats,
        "NewEmail": answers.Texts,
        "EmailToRewrite": answers.TextsAndOptions,
        "RewritingOptions": answers.Options,
        "RewrittenEmail": answers.Rewritten,
        "Report": answers.Report,
        "CreatedEmail": answers.Created,
    }
    for name, kind in names.items():
        described = document["components"]["schemas"][name]["properties"]
        members = set(described)
        if name == "EmailToRewrite":  # whose options are keywords, too
            options = document["components"]["schemas"]["RewritingOptions"]["properties"]
            members = members - {"html", "text", "options"} | set(options)
        assert set(kind.__annotations__) == members, name


# Where the bell is, and who may


@pytest.mark.parametrize("path", ["", "/", "/bell", "/bell/"])
def test_a_path_before_the_tenant(start_bell: Callable[..., Bell], path: str) -> None:
    bell = start_bell(BASE_URL="http://localhost:3000/bell")
    with Client(f"http://127.0.0.1:{bell.port}{path}", "acme") as client:
        assert client.create(subject="a").email_id == 1
        assert len(list(client.emails())) == 1


def test_ipv6(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(HOST="::1")
    with Client(f"http://[::1]:{bell.port}", "acme") as client:
        assert client.create().email_id == 1


def test_a_key(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(AUTH="keys", ADMIN_KEY="an admin's key of some length".replace(" ", "-"))
    with Client(f"http://localhost:{bell.port}", "acme", bell.settings["ADMIN_KEY"]) as client:
        assert client.create().email_id == 1
        assert len(list(client.create_many([{}, {}]))) == 2
    with (
        Client(f"http://localhost:{bell.port}", "acme", "lb_wrong") as client,
        pytest.raises(BellError) as caught,
    ):
        client.create()
    assert caught.value.status == 401


# Many


def test_25_000_lazily_and_in_order(client: Client, shared: Bell) -> None:
    taken = 0

    def emails() -> Iterator[Texts]:
        nonlocal taken
        for number in range(25_000):
            taken += 1
            yield {"subject": f"subject {number}", "campaign": f"c{number % 3}"}

    created = client.create_many(emails())
    assert taken == 0
    first = next(created)
    assert (first.email_id, taken) == (1, 1_001)  # a batch, and the one that was too many for it
    assert shared.rows(
        "SELECT count(*) FROM emails e JOIN tenants t USING (tenant) WHERE t.name = ?",
        client.tenant,
    ) == [(1_000,)]
    rest = list(created)
    assert [one.email_id for one in rest] == list(range(2, 25_001))
    assert rest[-1].tracking_pixel_url.endswith(f"/{client.tenant}/pixel/25000.gif")
    stored = shared.rows(
        "SELECT email, subject FROM emails JOIN tenants USING (tenant) WHERE name = ?"
        " ORDER BY email",
        client.tenant,
    )
    assert stored == [(n + 1, f"subject {n}") for n in range(25_000)]


def test_the_one_that_was_refused_is_named(client: Client) -> None:
    def emails() -> Iterator[Texts]:
        for number in range(3_000):
            yield {"subject": "x" * 999 if number == 2_345 else "x"}

    got: list[Created] = []
    with pytest.raises(BellError, match=r"^item 2345: subject is longer") as caught:
        got.extend(client.create_many(emails()))  # those before the failure are in it
    assert (caught.value.index, caught.value.field, caught.value.status) == (2_345, "subject", 400)
    assert [one.email_id for one in got] == list(range(1, 2_001))
    assert client.stats()["figures"]["sent"] == 2_000


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("text", TypeError),
        ({"metadata": {"a": object()}}, TypeError),
        ({"metadata": {"a": float("nan")}}, ValueError),
        ({"campaign": ["a"]}, TypeError),
    ],
)
def test_what_is_no_email_is_named(client: Client, wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="item 1"):
        list(client.create_many([{"subject": "a"}, wrong]))


def test_more_campaigns_than_a_batch_may_have(client: Client) -> None:
    assert len(list(client.create_many({"campaign": f"c{n}"} for n in range(1_200)))) == 1_200
    assert client.stats(campaign="c1199")["figures"]["sent"] == 1


def test_large_emails_make_small_batches(client: Client) -> None:
    email: Texts = {"metadata": {f"name{n}": "v" * 1_000 for n in range(50)}}
    assert len(list(client.create_many(email for _ in range(60)))) == 60


def test_none_at_all(client: Client) -> None:
    assert list(client.create_many([])) == []


def test_begun_again_with_the_same_key_nothing_is_created_twice(client: Client) -> None:
    emails: list[Texts] = [{"subject": str(n)} for n in range(30)]
    begun = client.create_many(emails, idempotency_key="newsletter-7", batch=10)
    early = [next(begun) for _ in range(11)]
    again = list(client.create_many(emails, idempotency_key="newsletter-7", batch=10))
    assert again[:11] == early
    assert client.stats()["figures"]["sent"] == 30


# Tries


def test_an_answer_that_got_lost_creates_nothing_twice(client: Client, shared: Bell) -> None:
    lost, passed = forward(shared.port, deliver=False), forward(shared.port)
    with scripted(lost, lost, passed) as between:
        created = Client(between.url, client.tenant).create(subject="once")
    assert len(between.requests) == 3
    keys = {header_of(one, "Idempotency-Key") for one in between.requests}
    assert len(keys) == 1
    assert created.email_id == 1
    with scripted(lost, lost, passed) as between:
        made = Client(between.url, client.tenant).create_many({"subject": "b"} for _ in range(40))
        assert [one.email_id for one in made] == list(range(2, 42))
    assert client.stats()["figures"]["sent"] == 41


@pytest.mark.parametrize("call", ["change", "delete"])
def test_what_is_not_safe_is_not_sent_twice(client: Client, shared: Bell, call: str) -> None:
    client.create()
    with scripted(forward(shared.port, deliver=False)) as between:
        other = Client(between.url, client.tenant)
        with pytest.raises(Unreachable) as caught:
            other.change(1, subject="x") if call == "change" else other.delete(1)
        assert caught.value.sent
    assert len(between.requests) == 1


def test_a_bell_that_is_killed_again_and_again(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(PORT=str(free_port()))
    created: list[tuple[str, int]] = []
    failed: list[str] = []
    ended = threading.Event()

    def create(name: str, client: Client) -> None:
        number = 0
        while not ended.is_set():
            subject = f"{name}-{number}"
            try:
                created.append((subject, client.create(subject=subject).email_id))
            except BellError:
                failed.append(subject)
            number += 1

    def some_more() -> None:
        before = len(created)
        wait_until(lambda: len(created) > before + 50)

    with Client(f"http://127.0.0.1:{bell.port}", "acme", retries=20, timeout=30) as client:
        threads = [threading.Thread(target=create, args=(f"t{n}", client)) for n in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(4):
            some_more()
            bell.kill()
            bell.start()
        some_more()
        ended.set()
        for thread in threads:
            thread.join(60)
    assert failed == []
    stored = dict(bell.rows("SELECT subject, email FROM emails"))
    assert bell.rows("SELECT count(*) FROM emails") == [(len(created),)]
    assert stored == dict(created)


def test_a_restart_between_two_batches(start_bell: Callable[..., Bell]) -> None:
    bell = start_bell(PORT=str(free_port()))
    with Client(f"http://127.0.0.1:{bell.port}", "acme", retries=9) as client:
        made = client.create_many({"subject": str(n)} for n in range(3_000))
        ids = [next(made).email_id]
        bell.kill()
        threading.Timer(0.5, bell.start).start()
        ids += [one.email_id for one in made]
    assert ids == sorted(set(ids))
    subjects = bell.rows("SELECT subject FROM emails ORDER BY email")
    assert subjects == [(str(n),) for n in range(3_000)]


# Connections


def test_a_connection_is_kept_and_replaced_once_the_bell_closed_it(
    start_bell: Callable[..., Bell],
) -> None:
    bell = start_bell(IDLE_SECONDS="1")
    with Client(f"http://127.0.0.1:{bell.port}", "acme", retries=0) as client:
        for _ in range(5):
            client.create()
        metrics = bell.metrics()
        assert metrics["connections_total"] <= 2 + 1  # ours, this one of the metrics
        wait_until(lambda: bell.metrics()["connections_open"] == 1)
        assert client.create().email_id == 6  # without a try of its own for it


def test_8_threads(client: Client, shared: Bell) -> None:
    before = shared.metrics()["connections_total"]
    ids: list[int] = []

    def create() -> None:
        ids.extend(client.create().email_id for _ in range(50))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(ids) == list(range(1, 401))
    assert shared.metrics()["connections_total"] - before <= 8 + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_has_connections_of_its_own(client: Client) -> None:
    client.create(subject="parent")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            numbers = [client.create(subject="child").email_id for _ in range(20)]
            os.write(write, json.dumps(numbers).encode())
        finally:
            os._exit(0)
    mine = [client.create(subject="parent").email_id for _ in range(20)]
    os.waitpid(child, 0)
    theirs = json.loads(os.read(read, 65536))
    os.close(read)
    os.close(write)
    assert sorted(mine + theirs) == list(range(2, 42))
    for number in mine:
        assert client.email(number)["subject"] == "parent"


def test_no_connection_is_open_once_it_is_closed(shared: Bell) -> None:
    with Client(f"http://127.0.0.1:{shared.port}", fresh_tenant()) as client:
        client.create()
        assert shared.metrics()["connections_open"] >= 2
    wait_until(lambda: shared.metrics()["connections_open"] == 1)
