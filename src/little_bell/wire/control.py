"""The control socket: HTTP on a 0600 unix socket beside the database, for commands."""

import os
import socket
from binascii import crc32

from little_bell.errors import LittleBellError

LONGEST = 80  # bytes of a name that fits into a socket's address behind its folder


def control_path(database: str) -> str:
    """`FILE.control`; a file with a very long name has one that is made from it."""
    folder, slash, name = database.rpartition("/")
    if len(os.fsencode(name)) > LONGEST:
        name = f"little-bell-{crc32(os.fsencode(name)):08x}"
    return folder + slash + name + ".control"


def short_path(path: str) -> str:
    """A path that fits into a socket address (107 bytes), by way of its folder's descriptor.

    The descriptor stays open as long as the process: it is part of the address.
    """
    if len(os.fsencode(path)) <= 100:
        return path
    folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    return f"/proc/self/fd/{folder}/{os.path.basename(path)}"


def listen(database: str) -> socket.socket:
    """Listen on the control socket; the caller holds the lock, so an old file is a dead one's."""
    path = control_path(database)
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(short_path(path))
    finally:
        os.umask(mask)
    listener.listen(16)
    listener.setblocking(False)
    return listener


def call(
    database: str, method: str, path: str, body: bytes | None = None, seconds: float = 30.0
) -> tuple[int, bytes]:
    """Ask the running server; returns status and body.

    Raises LittleBellError where none is running, or none answers for so many seconds.
    """
    import http.client

    connection = http.client.HTTPConnection("localhost", timeout=seconds)
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.sock.settimeout(seconds)
    try:
        connection.sock.connect(short_path(control_path(database)))
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise LittleBellError(f"no Little Bell is running on {database} ({error})") from None
    finally:
        connection.close()
