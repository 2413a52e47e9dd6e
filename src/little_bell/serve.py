"""`little-bell serve`: puts the server together, and takes it apart in order."""

import gc
import os
from collections.abc import Mapping

from little_bell import __version__
from little_bell.config import LITESTREAM, Config
from little_bell.errors import StartError, StoreError
from little_bell.ops.limits import limits
from little_bell.ops.logs import DEBUG, ERROR, INFO, WARN, Log
from little_bell.ops.secret import Secret
from little_bell.store.checkpoint import Checkpointer
from little_bell.store.database import Upgrading
from little_bell.store.lock import Lock
from little_bell.store.recorder import Recorder
from little_bell.store.tenants import some
from little_bell.store.writer import Writer
from little_bell.values import UNIX
from little_bell.wire import control
from little_bell.wire.fast_lane import FastLane
from little_bell.wire.handover import SlowLane
from little_bell.wire.listener import (
    BACKLOG,
    bind,
    inherited,
    name_of,
    port_of,
    unlink,
    without_sockets,
)
from little_bell.wire.server import Server

PATIENCE = 2.0  # seconds in which commands that write let go of the file
# Seconds in which Litestream lets go of it: it writes while it moves the write-ahead log.
LITESTREAM_PATIENCE = 3.0


def open_store(config: Config, upgrading: Upgrading | None = None) -> tuple[Lock, Writer]:
    """The locked, migrated database; `upgrading` is told before a step that may take seconds.

    Raises StartError."""
    path = config.database_url
    folder = os.path.dirname(path)
    try:
        if folder:
            os.makedirs(folder, exist_ok=True)
        lock = Lock(path, PATIENCE)
    except OSError as error:
        raise StartError(
            f"cannot write beside {path} ({error.strerror}): make the folder writable, or set "
            "DATABASE_URL"
        ) from None
    try:
        return lock, Writer(path, limits(config), upgrading=upgrading)
    except StoreError as error:
        lock.release()
        raise StartError(
            f"cannot use {path} ({error}): make the file writable, or set DATABASE_URL"
        ) from None
    except StartError:
        lock.release()
        raise


def without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the slow lane, which sees no credentials and hence compares none."""
    return {k: v for k, v in environment.items() if k not in ("ADMIN_KEY", "METRICS_TOKEN")}


def tell_of_open_tenants(config: Config, writer: Writer, log: Log) -> None:
    """Say once at the start who may be managed by anybody, and what closes it."""
    memory = writer.memory
    found = sorted(memory.tenants.by_name.keys() - memory.keys.closed)
    if found and config.auth == "open":
        log.write(
            WARN,
            "Anybody may read and change tenants that have no key",
            tenants=some([name.decode("ascii") for name in found]),
            close_with="little-bell keys create TENANT",
        )


def serve(config: Config, environment: Mapping[str, str]) -> None:
    """Serve until SIGTERM. `environment` is what the slow lane is started with.

    Raises StartError.
    """
    log = Log(config.log_level)
    listeners = inherited(environment) or [bind(config.host, config.port)]
    names = [name_of(listener) for listener in listeners]
    config.listening_on(port_of(listeners) or config.port)

    def upgrading(old: int, new: int) -> None:
        log.write(INFO, "The database is brought up to date; clients wait", schema=old, to=new)
        log.flush()
        for listener in listeners:  # who comes waits for some seconds, and is not refused
            listener.listen(BACKLOG)

    lock, writer = open_store(config, upgrading)
    try:
        secret = Secret(config)
    except StartError:
        lock.release()
        raise
    recorder = Recorder(writer, config.max_waiting_bytes)
    others = config.checkpoints == LITESTREAM
    writer.patience = LITESTREAM_PATIENCE if others else 0.0
    checkpointer = Checkpointer(writer, config.max_wal_bytes, others)
    commands = control.listen(config.database_url)
    slow = SlowLane(
        {
            **without_keys(without_sockets(environment)),
            "PORT": str(config.port),
            "BASE_URL": config.base_url,
        },
        config.slow_lane_idle_seconds,
    )
    lane_type: type[FastLane] = FastLane
    server_type: type[Server] = Server
    if config.log_level <= DEBUG:
        from little_bell.wire.steps import TellingLane, TellingServer

        lane_type, server_type = TellingLane, TellingServer
    lane = lane_type(config, recorder, checkpointer, log, slow.tell, secret)
    server = server_type(config, lane, listeners, commands, slow)
    for listener in listeners:
        listener.listen(BACKLOG)
    log.write(
        INFO,
        "Little Bell is listening",
        url=config.base_url,
        port=config.port,
        listening=names,
        database=config.database_url,
        version=__version__,
        pid=os.getpid(),
    )
    tell_of_open_tenants(config, writer, log)
    log.flush()
    gc.collect()
    gc.freeze()
    # Nearly all garbage goes by reference count: look for cycles more rarely (5 % of the time).
    gc.set_threshold(20_000, 50, 100)
    try:
        server.run()
    finally:
        lost = recorder.close()
        checkpointer.close()
        try:
            writer.close()
        except StoreError as error:
            log.write(ERROR, "The database did not close", reason=str(error))
        checkpointer.release()
        if lost:
            log.write(ERROR, "Events were lost: the disk failed to the end", events=lost)
        unlink(control.control_path(config.database_url))
        for name in names:
            if name == config.host:  # a unix socket of our own
                unlink(name.removeprefix(UNIX))
        lock.release()
        log.write(INFO, "Stopped")
        log.flush()
        log.output.close()
