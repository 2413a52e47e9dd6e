"""The TCP listener, and how peers' addresses are read."""

import errno
import socket

from little_bell.errors import StartError

BACKLOG = 1024  # connections that the kernel holds for us

LOOPBACK = b"\x7f\x00\x00\x01"  # the peer of a unix socket


def bind(host: str, port: int) -> socket.socket:
    """A TCP listener, not yet listening. Raises StartError."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Inherited by accepted sockets: answers leave at once.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setblocking(False)
        listener.bind(address)
    except UnicodeError:
        raise StartError(f"HOST={host!r} is no address or host name") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} is taken: stop the other program or set PORT"
        elif error.errno == errno.EACCES:
            reason = f"port {port} is not allowed for this user: set PORT to 1024 or more"
        else:
            reason = f"cannot listen on {host}:{port} ({error.strerror}): set HOST and PORT"
        raise StartError(reason) from None
    return listener


def packed(address: object) -> bytes:
    """A peer's address as bytes; IPv4-mapped IPv6 as IPv4."""
    if isinstance(address, tuple):
        host = str(address[0]).partition("%")[0]
        if ":" in host:
            found = socket.inet_pton(socket.AF_INET6, host)
            return found[12:] if found.startswith(b"\0" * 10 + b"\xff\xff") else found
        return socket.inet_pton(socket.AF_INET, host)
    return LOOPBACK
