"""Each step of a request in the log, at DEBUG: the slow lane, telling (see `wire.steps`)."""

from time import monotonic

from little_bell.ops.logs import DEBUG
from little_bell.page import REQUEST
from little_bell.wire.exchange import Exchange
from little_bell.wire.slow_lane import SlowLane
from little_bell.wire.workshop import LONG, PIECE, WHOLE, Made

KINDS = {WHOLE: "whole", LONG: "a long answer", PIECE: "a piece"}


class TellingSlowLane(SlowLane):
    """Says when a request was whole, when its answer was made, and when the client had it."""

    def _tell(self, exchange: Exchange, message: str, **fields: object) -> None:
        number = exchange.request.headers.get(REQUEST, b"").decode("latin-1")
        workshop = self.workshop
        with workshop.logging:
            workshop.log.write(DEBUG, message, request=number, route=exchange.route, **fields)
            workshop.log.flush()

    def _work(self, exchange: Exchange) -> None:
        size = len(exchange.request.body) if exchange.body is None else exchange.body.tell()
        self._tell(exchange, "Taken by the slow lane", body_bytes=size)
        super()._work(exchange)

    def _take(self, exchange: Exchange, made: Made) -> None:
        stream = exchange.stream
        self._tell(
            exchange,
            "Made",
            what=KINDS.get(made.kind, "cut off"),
            status=made.status or (stream.status if stream is not None else 0),
            bytes=len(made.data),
            milliseconds=since(exchange.whole_at),
        )
        super()._take(exchange, made)

    def _close(self, exchange: Exchange) -> None:
        if exchange in self.exchanges:
            message = "Answered by the slow lane" if exchange.answered else "Its client is gone"
            self._tell(exchange, message, milliseconds=since(exchange.whole_at))
        super()._close(exchange)


def since(moment: float) -> float:
    """Milliseconds since a moment of the monotonic clock; 0.0: it never came."""
    return round((monotonic() - moment) * 1000, 3) if moment else 0.0
