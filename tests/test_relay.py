"""The relay answers what the upstream answers, and bends no byte: by scripted neighbours"""

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bell import wait_until
from programs import free_port
from relays import (
    FRIENDLY,
    TRACKED,
    Relay,
    Script,
    ScriptedBell,
    ScriptedUpstream,
    Wire,
    relaying,
    told,
)

MESSAGE = b"Subject: hello\r\n\r\nHello\r\n"


@pytest.fixture(scope="module")
def upstream() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as one:
        yield one


@pytest.fixture(scope="module")
def bell() -> Iterator[ScriptedBell]:
    with ScriptedBell() as one:
        yield one


@pytest.fixture(scope="module")
def relay(
    tmp_path_factory: pytest.TempPathFactory, upstream: ScriptedUpstream, bell: ScriptedBell
) -> Iterator[Relay]:
    with relaying(tmp_path_factory.mktemp("relay"), upstream.url, f"--bell={bell.url}") as one:
        yield one


@pytest.fixture(scope="module")
def fickle(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ScriptedUpstream, Relay]]:
    """An upstream whose script tests put in, with a relay before it and no bell."""
    folder = tmp_path_factory.mktemp("fickle")
    with ScriptedUpstream() as one, relaying(folder, one.url) as relay:
        yield one, relay


def puts_in(upstream: ScriptedUpstream, script: Script) -> None:
    """Another script, from now on; nothing was taken yet."""
    upstream.counts.clear()
    upstream.taken.clear()
    upstream.script = script


@pytest.fixture
def wire(relay: Relay) -> Iterator[Wire]:
    """A client that is logged in."""
    with Wire(relay.port) as one:
        one.log_in()
        yield one


def send(wire: Wire, message: bytes, end: bytes = b".\r\n") -> tuple[int, list[str]]:
    """DATA with these very bytes."""
    assert wire.ask("DATA")[0] == 354
    wire.send(message + end)
    return wire.read()


def test_it_works(relay: Relay, upstream: ScriptedUpstream, bell: ScriptedBell) -> None:
    with relay.client(password="a-key") as client:
        refused = client.sendmail("ada@example.com", ["bob@example.com"], MESSAGE)
    assert refused == {}
    mail = upstream.taken[-1]
    assert mail.sender.startswith("FROM:<ada@example.com>")
    assert mail.recipients == ("TO:<bob@example.com>",)
    assert mail.data == MESSAGE + TRACKED
    target, headers, message = bell.asked[-1]
    assert target == "/acme/messages?recipient=bob%40example.com"
    assert headers["content-type"] == "message/rfc822"
    assert headers["accept"] == "application/json"
    assert headers["authorization"] == "Bearer a-key"
    assert message == MESSAGE
    wait_until(lambda: relay.transactions())
    fields = relay.transactions()[-1]["fields"]
    assert fields.pop("milliseconds") >= 0
    assert fields == {
        "tenant_id": "acme",
        "email_id": 7,
        "recipients": 1,
        "answer": "250 2.0.0",
    }


def test_each_transaction_has_a_key_of_its_own(relay: Relay, bell: ScriptedBell) -> None:
    with relay.client() as client:
        for _ in range(3):
            client.sendmail("ada@example.com", ["bob@example.com"], MESSAGE)
    keys = [headers["idempotency-key"] for _, headers, _ in bell.asked[-3:]]
    assert len(set(keys)) == 3


def test_of_several_recipients_none_is_recorded(wire: Wire, bell: ScriptedBell) -> None:
    wire.begin("bob@example.com", "eve@example.com")
    assert send(wire, MESSAGE)[0] == 250
    assert "%40" not in bell.asked[-1][0]


def test_the_one_that_was_taken_is_recorded(tmp_path: Path, bell: ScriptedBell) -> None:
    def script(verb: str, argument: str, _count: int) -> str | None:
        return "550 5.1.1 no such user" if verb == "RCPT" and "<bob" in argument else None

    with (
        ScriptedUpstream(script) as upstream,
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
        relay.client() as client,
    ):
        refused = client.sendmail("a@example.com", ["bob@example.com", "eve@example.com"], MESSAGE)
    assert refused == {"bob@example.com": (550, b"5.1.1 no such user")}
    assert bell.asked[-1][0].endswith("recipient=eve%40example.com")


@pytest.mark.parametrize(
    "message",
    [
        b"Subject: x\r\n\r\n.\x00\xff\x80 8 bit\r\n",
        b"..\r\n...\r\n.a\r\n",
        b"a\r\n..\r\n\r\n.b.\r\n",
        b"\r\n\r\n\r\n",
        b"x" * 100_000 + b"\r\n." + b"y" * 70_000 + b"\r\n",
        b"x" * 65_535 + b"\r\n.\xe9\r\n" + b"z" * 65_534 + b".\r\n",
        b"".join(b"." * (n % 5) + b"%d\r\n" % n for n in range(20_000)),
        b"",
    ],
    ids=["8bit", "dots", "dots inside", "empty lines", "long", "long and dots", "many", "nothing"],
)
def test_bytes_are_kept(wire: Wire, upstream: ScriptedUpstream, message: bytes) -> None:
    wire.begin()
    dotted = re.sub(rb"(?m)^\.", b"..", message)
    assert send(wire, dotted)[0] == 250
    assert upstream.taken[-1].data == message + TRACKED


def test_a_message_of_empty_lines_takes_no_more_memory(
    tmp_path: Path, upstream: ScriptedUpstream, bell: ScriptedBell
) -> None:
    def most(relay: Relay) -> int:
        status = Path(f"/proc/{relay.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    message = MESSAGE + b"\r\n" * (1 << 20)
    with (
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
        Wire(relay.port) as wire,
    ):
        wire.log_in()
        wire.begin()
        assert send(wire, MESSAGE)[0] == 250
        before = most(relay)
        wire.begin()
        assert send(wire, message)[0] == 250
        assert upstream.taken.pop().data == message + TRACKED
        assert most(relay) - before < 15 * len(message)  # an object for each line takes 17 times


# Bare CR and LF: what other servers may take for the end of a message (CVE-2023-51764 and others).
ENDS = [
    b"\n.\n",
    b"\r\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
]


@pytest.mark.parametrize("end", ENDS)
def test_nothing_is_smuggled(wire: Wire, upstream: ScriptedUpstream, end: bytes) -> None:
    smuggled = b"MAIL FROM:<admin@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nevil\r\n"
    before = len(upstream.taken)
    wire.begin()
    code, _ = send(wire, b"Subject: x\r\n\r\nharmless" + end + smuggled)
    assert wire.ask("NOOP")[0] == 250  # nothing of it was a command
    if end.count(b"\r\n") == end.count(b"\r") == end.count(b"\n"):
        assert code == 250  # a NUL alone is data
        assert smuggled in upstream.taken[-1].data
        assert len(upstream.taken) == before + 1
    else:
        assert code == 554
        assert len(upstream.taken) == before
    assert not any("admin@" in line for line in upstream.commands)


def test_commands_may_come_in_one_packet(wire: Wire, upstream: ScriptedUpstream) -> None:
    wire.send(
        b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<c@example.com>\r\n"
        b"DATA\r\n"
    )
    assert [wire.read()[0] for _ in range(4)] == [250, 250, 250, 354]
    wire.send(MESSAGE + b".\r\nMAIL FROM:<d@example.com>\r\nRCPT TO:<e@example.com>\r\nDATA\r\n")
    assert [wire.read()[0] for _ in range(4)] == [250, 250, 250, 354]
    wire.send(MESSAGE + b".\r\nNOOP\r\nRSET\r\nVRFY x\r\nQUIT\r\n")
    assert [wire.read()[0] for _ in range(5)] == [250, 250, 250, 252, 221]
    assert wire.closed
    senders = [mail.sender for mail in upstream.taken[-2:]]
    assert senders == ["FROM:<a@example.com>", "FROM:<d@example.com>"]


def test_parameters_are_passed_on(wire: Wire, upstream: ScriptedUpstream) -> None:
    sender = "FROM:<jürgen@exämple.com> SIZE=99 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=QQ+2B314159"
    recipient = 'TO:<"a > b"@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a+20b@example.com'
    assert wire.ask(f"MAIL {sender} AUTH=<>")[0] == 250
    assert wire.ask(f"RCPT {recipient}")[0] == 250
    assert send(wire, MESSAGE)[0] == 250
    mail = upstream.taken[-1]
    assert (mail.sender, mail.recipients) == (sender, (recipient,))


def test_the_null_sender(wire: Wire, upstream: ScriptedUpstream) -> None:
    assert wire.ask("mail from: <>")[0] == 250
    assert wire.ask("rcpt to: <Postmaster>")[0] == 250
    assert send(wire, MESSAGE)[0] == 250
    assert upstream.taken[-1].sender == "FROM:<>"


@pytest.mark.parametrize(
    "line",
    [
        "MAIL",
        "MAIL FROM:a@example.com",
        "MAIL FROM:<a@example.com",
        "MAIL FROM:<a@example.com>x",
        "MAIL FROM:<a b@example.com>",
        "MAIL FROM:<a@example.com> SIZE=x",
        "MAIL FROM:<a@example.com> SIZE=1 size=2",
        "MAIL FROM:<a@example.com> BODY=BINARYMIME",
        "MAIL FROM:<a@example.com>\rRCPT TO:<b@example.com>",
        "MAIL TO:<a@example.com>",
        "MAIL FROM:<a@example.com> =x",
        "MAIL FROM:<a\x00@example.com>",
    ],
)
def test_wrong_syntax_goes_nowhere(wire: Wire, upstream: ScriptedUpstream, line: str) -> None:
    before = [one for one in upstream.commands if one.startswith("MAIL")]
    code, [text] = wire.ask(line)
    assert (code, text[:5]) == (501, "5.5.4")
    assert [one for one in upstream.commands if one.startswith("MAIL")] == before
    wire.begin()  # and the session goes on
    assert wire.ask("RCPT TO:<>")[0] == 501
    assert wire.ask("RCPT FROM:<b@example.com>")[0] == 501


def test_order_of_commands(wire: Wire) -> None:
    assert wire.ask("RCPT TO:<b@example.com>")[0] == 503
    assert wire.ask("DATA")[0] == 503
    wire.begin()
    assert wire.ask("MAIL FROM:<b@example.com>")[0] == 503
    assert wire.ask("AUTH PLAIN x")[0] == 503
    assert wire.ask("DATA now")[0] == 501
    assert wire.ask("RSET")[0] == 250
    assert wire.ask("DATA")[0] == 503
    assert wire.ask("BDAT 1 LAST")[0] == 500
    assert wire.ask("EXPN x")[0] == 502


def test_every_answer_has_an_enhanced_code(wire: Wire) -> None:
    for line in (
        *("NOOP", "RSET", "RSET x", "MAIL", "RCPT", "DATA", "VRFY x", "EXPN x", "STARTTLS"),
        *("NONSENSE", "QUIT"),
    ):
        code, [text] = wire.ask(line)
        assert re.match(rf"{str(code)[0]}\.\d\.\d ", text), (line, code, text)


def test_no_answer_repeats_what_came(relay: Relay) -> None:
    with Wire(relay.port) as wire:
        assert wire.ask("MAIL FROM:<a@example.com>") == (503, ["5.5.1 Error: send HELO first"])
        assert wire.ask("X\r250-Y\x1b[2J\x00") == (500, ["5.5.2 Error: command not recognized"])


def test_ehlo_says_what_the_upstream_has(tmp_path: Path) -> None:
    with (
        ScriptedUpstream(offers=("SIZE 100000", "DSN", "CHUNKING", "XCLIENT NAME")) as upstream,
        relaying(tmp_path, upstream.url) as relay,
        Wire(relay.port) as wire,
    ):
        _, lines = wire.ask("EHLO client.example")
        assert lines[1:] == ["PIPELINING", "SIZE 100000", "DSN", "AUTH PLAIN LOGIN"]
        wire.log_in()
        assert wire.ask("MAIL FROM:<a@example.com> BODY=8BITMIME")[1][0].startswith("5.6.3")
        assert wire.ask("MAIL FROM:<a@example.com> SMTPUTF8")[1][0].startswith("5.6.7")
        wire.begin()  # 8 bits that nobody announced
        code, [text] = send(wire, b"Subject: x\r\n\r\n\xff\r\n")
        assert (code, text[:5]) == (554, "5.6.3")
        assert upstream.taken == []


def test_a_small_maximum_is_announced_and_kept(tmp_path: Path) -> None:
    with (
        ScriptedUpstream() as upstream,
        relaying(tmp_path, upstream.url, "--max-size=65536") as relay,
        Wire(relay.port) as wire,
    ):
        assert "SIZE 65536" in wire.ask("EHLO client.example")[1]
        wire.log_in()
        assert wire.ask("MAIL FROM:<a@example.com> SIZE=65537")[0] == 552
        wire.begin()
        assert send(wire, b"x" * 65_534 + b"\r\n")[0] == 250
        wire.begin()
        assert send(wire, b"x" * 5_000_000 + b"\r\n")[0] == 552
        wire.begin()
        assert send(wire, MESSAGE)[0] == 250
        assert [len(mail.data) for mail in upstream.taken] == [65_536, len(MESSAGE)]


def test_the_original_goes_where_the_tracked_one_is_too_large(tmp_path: Path) -> None:
    with (
        ScriptedBell(lambda message: told(message + b"y" * 2000 + b"\r\n")) as bell,
        ScriptedUpstream(offers=("SIZE 1000",)) as upstream,
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
        relay.client() as client,
    ):
        client.sendmail("a@example.com", ["b@example.com"], MESSAGE)
        assert upstream.taken[-1].data == MESSAGE
        assert "size" in relay.transactions()[-1]["fields"]["reason"]


@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        ("MAIL", "550 5.7.1 not from you"),
        ("MAIL", "451 4.7.1 greylisted"),
        ("MAIL", "552 5.3.4 line one\n552 5.3.4 line two"),
        ("RCPT", "550 5.1.1 no such user"),
        ("RCPT", "452 4.2.2 mailbox full"),
        ("RCPT", "551 no enhanced code"),
        ("DATA", "554 5.5.1 no"),
        ("DOT", "554 5.7.1 spam"),
        ("DOT", "451 4.3.0 later"),
        ("DOT", "550 "),
    ],
)
def test_answers_are_the_upstreams_own(
    fickle: tuple[ScriptedUpstream, Relay], verb: str, answer: str
) -> None:
    upstream, relay = fickle

    def script(said: str, _argument: str, count: int) -> str | None:
        return answer if said == verb and count == 1 else None

    puts_in(upstream, script)
    with Wire(relay.port) as wire:
        wire.log_in()
        said = [wire.ask("MAIL FROM:<a@example.com>")]
        if said[-1][0] == 250:
            said.append(wire.ask("RCPT TO:<b@example.com>"))
        if said[-1][0] == 250:
            said.append(send(wire, MESSAGE))
        lines = answer.split("\n")
        assert said[-1] == (int(answer[:3]), [line[4:] for line in lines])
        assert upstream.taken == []
        assert wire.ask("RSET")[0] == 250
        wire.begin()
        assert send(wire, MESSAGE)[0] == 250
        assert len(upstream.taken) == 1


@pytest.mark.parametrize("verb", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "DOT"])
@pytest.mark.parametrize("answer", ["drop", "421 4.3.2 shutting down", "999 nonsense", "nonsense"])
def test_a_lost_upstream_is_never_a_250(
    fickle: tuple[ScriptedUpstream, Relay], verb: str, answer: str
) -> None:
    upstream, relay = fickle
    broken = True
    puts_in(upstream, lambda said, *_: answer if said == verb and broken else None)
    with Wire(relay.port) as wire:
        wire.log_in()
        codes = [wire.ask("MAIL FROM:<a@example.com>")[0]]
        if codes[-1] == 250:
            codes.append(wire.ask("RCPT TO:<b@example.com>")[0])
        if codes[-1] == 250:
            codes.append(send(wire, MESSAGE)[0])
        assert codes[-1] in (421, 451)
        assert upstream.taken == []
        if codes[-1] == 421:
            assert wire.closed
        else:
            assert wire.ask("DATA")[0] in (451, 503)
    broken = False
    with Wire(relay.port) as wire:
        wire.log_in()
        wire.begin()
        assert send(wire, MESSAGE)[0] == 250
    assert len(upstream.taken) == 1


@pytest.mark.parametrize(
    ("verb", "answer"),
    [
        ("DATA", "250 2.0.0 taken, before anything was sent"),
        ("RCPT", "250 2.1.5 ok\r\n250 2.1.5 once more"),
        ("DATA", "354 go on\r\n250 2.0.0 taken, before anything was sent"),
        ("DOT", "354 go on"),
    ],
)
def test_answers_out_of_step_are_never_a_250(
    fickle: tuple[ScriptedUpstream, Relay], verb: str, answer: str
) -> None:
    upstream, relay = fickle
    puts_in(upstream, lambda said, _, count: answer if said == verb and count == 1 else None)
    with Wire(relay.port) as wire:
        wire.log_in()
        wire.begin()
        assert send(wire, MESSAGE) == (451, ["4.5.0 the upstream's answer makes no sense"])
        line = relay.transactions()[-1]
        assert line["level"] == "WARN"
        assert line["fields"].get("in_doubt", False) == (verb == "DOT")
        wire.begin()  # in a conversation that is in step
        assert send(wire, MESSAGE)[0] == 250
    assert len(upstream.taken) == 1


def test_without_an_upstream(tmp_path: Path) -> None:
    with relaying(tmp_path, f"smtp://127.0.0.1:{free_port()}") as relay, Wire(relay.port) as wire:
        wire.log_in()
        code, [text] = wire.ask("MAIL FROM:<a@example.com>")
        assert (code, text[:5]) == (451, "4.4.1")
        assert wire.ask("RCPT TO:<b@example.com>")[0] == 503
        line = relay.transactions()[-1]
        assert (line["level"], line["fields"]["answer"]) == ("WARN", "451 4.4.1")


def test_a_spare_conversation_that_ended_is_replaced(tmp_path: Path) -> None:
    def script(verb: str, _argument: str, count: int) -> str | None:
        return {2: "drop", 4: "421 4.4.2 idle for too long"}.get(count) if verb == "MAIL" else None

    with (
        ScriptedUpstream(script) as upstream,
        relaying(tmp_path, upstream.url) as relay,
        relay.client() as client,
    ):
        for _ in range(3):
            client.sendmail("a@example.com", ["b@example.com"], MESSAGE)
        assert len(upstream.taken) == 3


def test_one_recipient_at_a_time(tmp_path: Path, bell: ScriptedBell) -> None:
    def script(verb: str, argument: str, _count: int) -> str | None:
        return "550 5.1.1 no such user" if verb == "RCPT" and "<no" in argument else None

    with (
        ScriptedUpstream(script) as upstream,
        relaying(tmp_path, upstream.url, "--per-recipient", f"--bell={bell.url}") as relay,
        relay.client() as client,
    ):
        wanted = ["no@example.com", "b@example.com", "c@example.com"]
        refused = client.sendmail("a@example.com", wanted, MESSAGE)
        assert {one: code for one, (code, _) in refused.items()} == {
            "no@example.com": 550,
            "c@example.com": 452,
        }
        assert client.sendmail("a@example.com", ["c@example.com"], MESSAGE) == {}
        assert [mail.recipients for mail in upstream.taken] == [
            ("TO:<b@example.com>",),
            ("TO:<c@example.com>",),
        ]
        targets = [target for target, _, _ in bell.asked[-2:]]
        assert [one.partition("recipient=")[2] for one in targets] == [
            "b%40example.com",
            "c%40example.com",
        ]


# What becomes of a message whose bell does not do its part.


def stalls(_message: bytes) -> tuple[int, bytes]:
    time.sleep(8)
    return 503, b""


STEERED = b"X-Little-Bell: campaign=spring;\r\n pixel=top\r\nSubject: hello\r\n\r\nHello\r\n"


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: (503, b"{}"),
        lambda _: (401, b"{}"),
        lambda _: (201, b"not JSON"),
        lambda _: (201, b"[]"),
        lambda _: (201, b'{"email_id": 7, "message": "?"}'),
        lambda _: told(b"Subject: x\r\n\r\nbare\nline\r\n"),
        lambda _: told(b"Subject: hello\r\n\r\nends\r"),
        lambda _: told(b"Subject: x\r\n\r\n8 bit \xff\r\n"),
        stalls,
    ],
    ids=["503", "401", "no JSON", "list", "no base64", "bare", "stray end", "8 bit", "stalls"],
)
def test_the_original_goes_out(tmp_path: Path, upstream: ScriptedUpstream, answer: object) -> None:
    with (
        ScriptedBell(answer) as bell,  # type: ignore[arg-type]
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
        relay.client() as client,
    ):
        client.sendmail("a@example.com", ["b@example.com"], STEERED)
        assert upstream.taken[-1].data == MESSAGE
        [line] = relay.transactions()
        assert line["level"] == "WARN"
        assert line["message"] == "A message was relayed"
        assert line["fields"]["email_id"] is None
        assert "the bell" in line["fields"]["reason"]


def test_what_the_bell_leaves_alone_is_noted(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    def leaves(message: bytes) -> tuple[int, bytes]:
        return 200, told(message, None)[1].replace(b'"problems": []', b'"problems": ["no consent"]')

    with (
        ScriptedBell(leaves) as bell,
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
        relay.client() as client,
    ):
        client.sendmail("a@example.com", ["b@example.com"], MESSAGE)
        assert upstream.taken[-1].data == MESSAGE
        [line] = relay.transactions()
        assert line["level"] == "INFO"
        assert "left it as it is" in line["fields"]["note"]


def test_steering_never_goes_on(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with (
        ScriptedBell() as bell,  # which leaves it in
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
        relay.client() as client,
    ):
        client.sendmail("a@example.com", ["b@example.com"], b"X-Little-Bell: a=b\r\n" + MESSAGE)
        assert upstream.taken[-1].data == MESSAGE + TRACKED


def test_the_last_line_gets_its_end(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with (
        ScriptedBell(lambda message: told(message + b"<img>")) as bell,
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
        relay.client() as client,
    ):
        client.sendmail("a@example.com", ["b@example.com"], MESSAGE)
        assert upstream.taken[-1].data == MESSAGE + b"<img>\r\n"


def test_without_a_bell(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    with (
        relaying(tmp_path, upstream.url, "--bell=http://127.0.0.1:1") as relay,
        relay.client() as client,
    ):
        client.sendmail("a@example.com", ["b@example.com"], STEERED)
        assert upstream.taken[-1].data == MESSAGE
        client.sendmail("a@example.com", ["b@example.com"], b"X-Little-Bell: track=none\r\n\r\n")
        assert upstream.taken[-1].data == b"\r\n"
        assert [line["level"] for line in relay.transactions()] == ["WARN", "INFO"]


# Clients that go away.


def test_a_client_that_leaves_within_its_message(
    relay: Relay, upstream: ScriptedUpstream, wire: Wire
) -> None:
    before = (len(upstream.taken), len(relay.transactions()))
    wire.begin()
    assert wire.ask("DATA")[0] == 354
    wire.send(b"Subject: half\r\n\r\nhalf\r\n")
    wire.socket.shutdown(socket.SHUT_RDWR)
    wait_until(lambda: len(relay.transactions()) > before[1])
    assert len(upstream.taken) == before[0]
    line = relay.transactions()[-1]
    assert line["message"] == "A message was not relayed"


def test_a_client_that_leaves_while_the_bell_thinks(tmp_path: Path) -> None:
    def slow(message: bytes) -> tuple[int, bytes]:
        time.sleep(1)
        return told(message)

    with (
        ScriptedUpstream() as upstream,
        ScriptedBell(slow) as bell,
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
    ):
        with Wire(relay.port) as wire:
            wire.log_in()
            wire.begin()
            wire.ask("DATA")
            wire.send(MESSAGE + b".\r\n")
            wait_until(lambda: bell.asked)
        wait_until(lambda: relay.transactions())
        time.sleep(1.2)
        assert (upstream.taken, upstream.unfinished) == ([], 0)


# The end.


def test_an_orderly_stop(tmp_path: Path) -> None:
    def slow(message: bytes) -> tuple[int, bytes]:
        time.sleep(2)
        return told(message)

    with (
        ScriptedUpstream() as upstream,
        ScriptedBell(slow) as bell,
        relaying(tmp_path, upstream.url, f"--bell={bell.url}") as relay,
        Wire(relay.port) as idle,
        Wire(relay.port) as begun,
        Wire(relay.port) as busy,
    ):
        for one in (idle, begun, busy):
            one.log_in()
        begun.begin()
        busy.begin()
        busy.ask("DATA")
        busy.send(MESSAGE + b".\r\n")
        wait_until(lambda: bell.asked)
        relay.process.terminate()
        assert idle.read()[0] == 421
        assert begun.read()[0] == 421
        assert busy.read()[0] == 250
        assert busy.read()[0] == 421
        assert all(one.closed for one in (idle, begun, busy))
        assert relay.process.wait(20) == 0
        assert len(upstream.taken) == 1
        assert relay.lines()[-1]["message"] == "The relay stopped"
        assert relay.error_file.read_text() == ""


def test_the_log_names_nobody(relay: Relay, upstream: ScriptedUpstream) -> None:
    with relay.client(password="a-secret-of-somebody") as client:
        client.sendmail("ada@example.com", ["bob@example.com"], MESSAGE)
    shown = relay.log_file.read_text() + relay.error_file.read_text()
    assert "example.com" not in shown
    assert "a-secret" not in shown
    assert relay.error_file.read_text() == ""


def test_offers_of_the_friendly_upstream_are_passed(wire: Wire) -> None:
    _, lines = wire.ask("EHLO again.example")
    assert {one.partition(" ")[0] for one in FRIENDLY} <= {one.partition(" ")[0] for one in lines}
