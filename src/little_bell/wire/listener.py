"""Listeners: TCP, a unix socket, sockets inherited from systemd; and the addresses of peers."""

import errno
import os
import socket
import stat
from collections.abc import Mapping

from little_bell.errors import StartError
from little_bell.values import UNIX

BACKLOG = 1024  # connections that the kernel holds for us
INHERITED = 3  # descriptor of the first inherited socket

LOOPBACK = b"\x7f\x00\x00\x01"  # the peer of a unix socket


def bind(host: str, port: int) -> socket.socket:
    """A listener, not yet listening. Raises StartError."""
    if host.startswith(UNIX):
        return bind_unix(host.removeprefix(UNIX))
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        prepare(listener)
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


def prepare(listener: socket.socket) -> None:
    """What every listener needs. Options are inherited by accepted sockets."""
    listener.setblocking(False)
    if listener.family != socket.AF_UNIX:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # answers leave at once


def bind_unix(path: str) -> socket.socket:
    """A unix socket that everybody may connect to who may enter its folder.

    The file that a server left which was killed is replaced. Raises StartError.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o111)
    try:
        if os.path.lexists(path):
            remove_stale(path)
        listener.bind(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(f"cannot listen on {path} ({reason}): set HOST") from None
    finally:
        os.umask(mask)
    prepare(listener)
    return listener


def remove_stale(path: str) -> None:
    """Remove a socket on which nobody listens. Raises StartError for anything else; OSError."""
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise StartError(f"{path} is no socket: remove it, or set HOST")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise StartError(f"another program listens on {path}: stop it, or set HOST")


def inherited(environment: Mapping[str, str]) -> list[socket.socket]:
    """The sockets that systemd (or whoever speaks its protocol) opened for us, if any.

    https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html. Raises StartError.
    """
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = environment.get("LISTEN_FDS", "")
    if not count.isdecimal():
        raise StartError(f"LISTEN_FDS={count!r} is no number")
    found = []
    for descriptor in range(INHERITED, INHERITED + int(count)):
        try:
            os.set_inheritable(descriptor, False)
            listener = socket.socket(fileno=descriptor)
        except OSError:
            raise StartError(f"inherited descriptor {descriptor} is no socket") from None
        if listener.type != socket.SOCK_STREAM:
            raise StartError(f"inherited descriptor {descriptor} is no stream socket")
        prepare(listener)
        found.append(listener)
    return found


def without_sockets(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child, to which inherited sockets do not belong."""
    return {name: value for name, value in environment.items() if not name.startswith("LISTEN_")}


def name_of(listener: socket.socket) -> str:
    """Where it listens, for people: `0.0.0.0:3000`, `[::]:3000`, `unix:PATH`."""
    address = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return UNIX + os.fsdecode(address)
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{host}:{address[1]}"


def port_of(listeners: list[socket.socket]) -> int:
    """The port of the first TCP listener; 0 where there is none."""
    ports = [one.getsockname()[1] for one in listeners if one.family != socket.AF_UNIX]
    return int(ports[0]) if ports else 0


def unlink(path: str) -> None:
    """Remove a socket's file, if nobody else was faster."""
    try:
        os.unlink(path)
    except OSError:
        pass


def packed(address: object) -> bytes:
    """A peer's address as bytes; IPv4-mapped IPv6 as IPv4."""
    if isinstance(address, tuple):
        host = str(address[0]).partition("%")[0]
        if ":" in host:
            found = socket.inet_pton(socket.AF_INET6, host)
            return found[12:] if found.startswith(b"\0" * 10 + b"\xff\xff") else found
        return socket.inet_pton(socket.AF_INET, host)
    return LOOPBACK
