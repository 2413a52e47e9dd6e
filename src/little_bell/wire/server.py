"""The loop: sockets in, one commit, answers out. Each turn is a tick.

One thread, no queue, no lock: a tick reads whatever sockets are ready, decides every whole
request, records all of it in one transaction and only then sends the answers. More load means
bigger batches.
"""

import errno
import selectors
import socket
from functools import partial
from time import monotonic, perf_counter, sleep

from little_bell.config import Config
from little_bell.errors import Refused, StoreError
from little_bell.ops.health import HELD
from little_bell.ops.logs import INFO, WARN
from little_bell.wire.connection import Connection
from little_bell.wire.fast_lane import FastLane
from little_bell.wire.handover import SlowLane
from little_bell.wire.http import CONTINUE, BadRequest, Reader
from little_bell.wire.listener import packed
from little_bell.wire.passage import Passage
from little_bell.wire.room import Room, most_connections
from little_bell.wire.signals import Signals

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

RECEIVE = 16_384  # bytes read from a connection in a tick
PER_CONNECTION = 32  # requests one connection may bring to a tick
PER_TICK = 128  # requests decided in a tick: with their commit some 8 ms
TAKING = 0.005  # seconds of a tick in which requests are taken
WAITING_PER_TICK = PER_TICK // PER_CONNECTION // 2  # connections with requests left over
ROTATION = 7919  # a prime: no number of ready sockets divides it
SWEPT = 64  # connections closed in a turn because their time is over
ACCEPTS = 64  # connections accepted in a tick
WITHOUT_ROOM = 0.02  # seconds until it is tried again to accept, where nothing can be closed
CONTROL_BODY = 1 << 20  # bytes of what a command sends
LINGER = 2.0  # seconds a refused client has to stop sending
STOP = 8.0  # seconds that requests under way have to end after SIGTERM
GRACE = 0.2  # seconds in which requests already sent are still read after SIGTERM


class Server:
    """Owns every socket of the fast lane."""

    def __init__(
        self,
        config: Config,
        lane: FastLane,
        listeners: list[socket.socket],
        control: socket.socket,
        slow: SlowLane,
    ) -> None:
        self.config = config
        self.most, self.bound = most_connections(config.max_connections)
        self.room = Room(config.idle_seconds, config.request_seconds)
        self.lane = lane
        self.counters = lane.counters
        self.counters.connections_max = self.most
        self.listeners = [*listeners, control]
        self.control = control
        self.selector = selectors.DefaultSelector()
        self.passage = Passage(slow, lane, self.selector)
        self.connections: set[Connection] = set()
        self.touched: list[Connection] = []  # have answers to send this tick
        self.more: list[Connection] = []  # hold requests that this tick had no room for
        self.taken = 0  # requests of this tick
        self.now = monotonic()  # stands still during a tick
        self.idle_deadline = self.swept_at = self.now
        self.enough = 0.0  # perf_counter after which this tick takes no more requests
        self.rotation = 0
        self.unswept = False  # some connections whose time is over are still open
        self.stop_at = 0.0  # monotonic, once SIGTERM came
        self.full = False  # said in the log that no connection more can be taken
        self.held = False  # said in the log that a reader is in the way of checkpoints
        for one in self.listeners:
            self.selector.register(one, READ, partial(self._accept, one))
        self.signals = Signals()
        self.selector.register(self.signals.socket, READ, self._asked_to_stop)

    def _asked_to_stop(self) -> None:
        self.signals.drain()
        if not self.stop_at:
            self.stop_at = monotonic() + STOP

    # The loop

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT, then finish what is under way."""
        while not self.stop_at:
            try:
                busy = self.more or self.unswept or self.lane.bulk.job(monotonic()) is not None
                self.turn(0.0 if busy else self.passage.patience(monotonic()))
            except Exception as error:  # the outermost edge: a fault must not end the bell
                self._failed(error)
        self._stop()

    def _failed(self, error: Exception) -> None:
        """Log a fault of ours; whoever waited for that turn is closed without an answer."""
        self.lane.log.fault("A turn failed", error)
        self.lane.forget_tick()
        self.touched.clear()
        self.more.clear()
        for connection in list(self.connections):
            if connection.out or connection.hand_over is not None or connection.reader.buffer:
                self._drop(connection)

    def turn(self, timeout: float) -> None:
        """One tick."""
        if self.lane.recorder.reason is not None:
            timeout = min(timeout, 0.1)
        ready = self.selector.select(timeout)
        started = perf_counter()
        lane = self.lane
        lane.begin_tick()
        self.now = monotonic()
        self.idle_deadline = self.now + self.config.idle_seconds
        self.taken = 0
        if self.more:
            self.enough = started + TAKING / 2  # the rest is for those that come
            waiting, self.more = self.more[:WAITING_PER_TICK], self.more[WAITING_PER_TICK:]
            for connection in waiting:
                # One whose answers wait for the kernel goes on once these are sent.
                if connection in self.connections and not (connection.unsent or connection.closing):
                    self._take(connection)
        for connection in list(self.passage.waiting):
            self._give_away(connection)
            if connection in self.passage.waiting:  # no room yet
                break
        self.enough = started + TAKING
        # The rest is ready again at once, but in the same order: begin elsewhere in each turn.
        self.rotation += ROTATION
        first = self.rotation % len(ready) if ready else 0
        for key, mask in ready[first:] + ready[:first]:
            if self.taken >= PER_TICK or perf_counter() > self.enough:
                break
            data = key.data
            if type(data) is Connection:
                if mask & WRITE:
                    self._send(data)
                if mask & READ and not data.unsent:
                    self._read(data)
            else:
                data()
        lane.commit()
        taken = self.taken
        if self.touched:
            touched, self.touched = self.touched, []
            for connection in touched:
                self._answer(connection)
        if taken:
            self.counters.latency.observe(perf_counter() - started, taken)
        self._housekeeping()
        if lane.checkpointer.pause:
            sleep(lane.checkpointer.pause)
        spent = perf_counter() - started
        self.counters.tick.observe(spent)
        if spent > self.counters.longest_turn:
            self.counters.longest_turn = spent

    def _housekeeping(self) -> None:
        now = self.now
        self._checkpoint(now)
        if self.unswept or now - self.swept_at >= 1.0:
            self.swept_at = now
            self._sweep(now)
        if self.lane.log.lines or self.lane.log.held:
            self.lane.log.flush()

    def _checkpoint(self, now: float) -> None:
        recorder = self.lane.recorder
        if recorder.reason is None:
            try:
                self.lane.checkpointer.step(now)
            except StoreError as error:
                recorder.degrade(error, now)
        if self.lane.checkpointer.held is not self.held:
            self.held = self.lane.checkpointer.held
            message = HELD if self.held else "The write-ahead log is within its cap again"
            self.lane.log.write(WARN, message[:1].upper() + message[1:])
        if recorder.must_reopen:
            self.passage.clear()

    def _sweep(self, now: float) -> None:
        over = [one for one in self.connections if one.deadline < now]
        self.unswept = len(over) > SWEPT
        for connection in over[:SWEPT]:
            if connection.reader.reading and not connection.unsent and not connection.closing:
                self._refuse(connection, BadRequest(408, "the request took too long to arrive"))
                self._answer(connection)
            else:
                self._drop(connection)
        if len(self.connections) < self.most * 0.9:
            self.full = False
        self.passage.sweep(now)

    # Connections

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._make_room(str(error.strerror))
                    if not self.connections:  # all descriptors are somebody else's
                        sleep(WITHOUT_ROOM)
                return
            self.counters.accepted += 1
            control = listener is self.control
            divert = None if control else self.lane.diverts
            reader = Reader(CONTROL_BODY if control else self.config.max_body_bytes, divert)
            connection = Connection(sock, packed(address), reader, control)
            connection.number = self.counters.accepted
            connection.deadline = self.idle_deadline
            self.connections.add(connection)
            self.selector.register(sock, READ, connection)
            self.counters.connections = len(self.connections)
            if len(self.connections) > self.most:
                self._make_room(self.bound)

    def _make_room(self, reason: str) -> None:
        """Close some of the connections that came no further for longest."""
        for connection in self.room.first_to_go(self.connections, self.now):
            self._drop(connection)
        if not self.full:
            self.full = True
            self.lane.log.write(WARN, "Connections are closed to make room", reason=reason)

    def _drop(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.discard(connection)
            self.passage.forget(connection)
            connection.socket.close()
            connection.reader.close()
            self.room.leave(connection)
            self.counters.connections = len(self.connections)

    def _read(self, connection: Connection) -> None:
        if connection.reader.buffer and not connection.closing:
            return  # it has requests waiting: the kernel holds the rest back
        try:
            data = connection.socket.recv(RECEIVE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._drop(connection)
            return
        if not data:  # perhaps half-closed: what came whole is answered first
            connection.closing = True
            if not connection.out:
                self._drop(connection)
        elif not connection.closing:
            connection.reader.feed(data)
            self._take(connection)

    def _take(self, connection: Connection) -> None:
        """Decide the whole requests that a connection brought."""
        reader = connection.reader
        lane = self.lane
        out = connection.out
        fresh = not reader.reading
        before = self.taken
        for _ in range(PER_CONNECTION):
            try:
                request = reader.next()
            except BadRequest as bad:
                self._refuse(connection, bad)
                break
            if request is None:
                if reader.expects:
                    reader.expects = False
                    out.append(CONTINUE)
                break
            self.taken += 1
            diverted = reader.diverted
            if self.stop_at or diverted:
                request.keep_alive = False
            try:
                outcome = lane.handle(request, connection.peer, connection.control, diverted)
            except Exception as error:  # a fault of ours costs one request, not the bell
                self.lane.log.fault("A request failed", error)
                self._refuse(connection, BadRequest(500, "this failed; the log says why"))
                break
            if outcome is None:
                message = request.dump_head() + reader.buffer if diverted else request.dump()
                connection.hand_over = (request, message)
            else:
                out.append(outcome)
            if outcome is None or not request.keep_alive:
                connection.closing = True
                connection.lingering = diverted  # its body is still to come
                break
            if not reader.buffer:
                break
            if perf_counter() > self.enough:
                self.more.append(connection)
                break
        else:
            self.more.append(connection)
        if reader.diverted:
            reader.buffer = b""
        if out or connection.hand_over is not None:
            self.touched.append(connection)
        if not reader.reading:
            if self.taken > before:
                connection.deadline = self.idle_deadline
        elif fresh or self.taken > before:
            connection.deadline = self.now + self.config.request_seconds
        if len(reader.buffer) + reader.size != connection.held:
            room = self.room.hold(connection)
            if not (room or connection.closing):
                self._refuse(connection, BadRequest(503, "too many requests are unfinished"))
                self.touched.append(connection)

    def _refuse(self, connection: Connection, bad: BadRequest) -> None:
        """Answer bytes that are no request, and close."""
        connection.refuse(self.lane.replies.malformed(Refused(bad.status, bad.detail)))

    def _answer(self, connection: Connection) -> None:
        """Send what a tick made for a connection."""
        connection.collect()
        self._send(connection)

    def _send(self, connection: Connection) -> None:
        if connection.unsent:
            data = connection.unsent
            try:
                sent = connection.socket.send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(connection)
                return
            if sent < len(data):
                connection.unsent = data[sent:]
                if not self.room.owe(connection):
                    self._drop(connection)
                    return
                connection.deadline = self.now + self.config.request_seconds
                if not connection.writing:
                    connection.writing = True
                    self.selector.modify(connection.socket, WRITE, connection)
                return
            connection.unsent = b""
            if connection.owed:
                self.room.owe(connection)
            if connection.writing:
                connection.writing = False
                self.selector.modify(connection.socket, READ, connection)
                if connection.reader.buffer and not connection.closing:
                    self.more.append(connection)
        if connection.hand_over is not None:
            self._give_away(connection)
        elif connection.lingering:
            # Unread bytes would make close() reset the connection and lose the answer.
            connection.deadline = self.now + LINGER
            try:
                connection.socket.shutdown(socket.SHUT_WR)
            except OSError:
                self._drop(connection)
        elif connection.closing:
            self._drop(connection)

    def _give_away(self, connection: Connection) -> None:
        if taken := self.passage.give(connection, self.now):
            self._drop(connection)
        elif taken is False and connection.hand_over is not None:
            request, _ = connection.hand_over
            connection.hand_over = None
            connection.refuse(self.lane.not_taken(request))
            self._answer(connection)

    # The end

    def _stop(self) -> None:
        """Stop accepting, finish what is under way, let the slow lane end."""
        lane = self.lane
        lane.log.write(INFO, "Stopping", connections=len(self.connections))
        for listener in self.listeners:
            self.selector.unregister(listener)
            listener.close()
        idle_from = monotonic() + GRACE
        while (self.connections or lane.bulk.queue) and monotonic() < self.stop_at:
            try:
                self.turn(0.05 if lane.bulk.job(monotonic()) is None else 0.0)
            except Exception as error:
                self._failed(error)
            if monotonic() >= idle_from:
                for connection in [one for one in self.connections if one.idle]:
                    self._drop(connection)
        for connection in list(self.connections):
            self._drop(connection)
        self.passage.close(max(1.0, self.stop_at - monotonic()))
        self.signals.close()
        self.selector.close()
