"""A message on the wire: its pieces, however it is cut into packets"""

import asyncio

import pytest

from little_bell.relay.dots import dotted, read_pieces, whole


async def taken(packets: list[bytes]) -> tuple[bytes, bytes]:
    """The message, and what stays unread behind it."""
    reader = asyncio.StreamReader()

    async def arrive() -> None:
        for packet in packets:
            reader.feed_data(packet)
            await asyncio.sleep(0)
        reader.feed_eof()

    arrival = asyncio.create_task(arrive())
    message = b"".join([piece async for piece in read_pieces(reader)])
    await arrival
    return message, await reader.read()


@pytest.mark.parametrize("rest", [b"", b".\r\n", b"\r\n.\r\n", b"RSET\r\n"])
@pytest.mark.parametrize(
    "message",
    [b"", b"\r\n", b".\r\n", b"..\r\n.\r\n", b"\r\n.\r\n\r\n", b"a\r\n.b\r\n", b"\n.\n\r.\r\r\n"],
)
def test_any_two_cuts(message: bytes, rest: bytes) -> None:
    data = dotted(message) + rest
    for first in range(len(data) + 1):
        for second in range(first, len(data) + 1):
            packets = [data[:first], data[first:second], data[second:]]
            assert asyncio.run(taken(packets)) == (message, rest)


def test_a_message_without_an_end() -> None:
    with pytest.raises(asyncio.IncompleteReadError):
        asyncio.run(taken([b"a\r\n.\r"]))


def test_its_memory_is_taken_once() -> None:
    pieces = bytearray(b"ab")
    assert whole(pieces) == b"ab"
    assert pieces == b""
