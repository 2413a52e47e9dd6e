"""The kill switches: what a tenant switches off, and on again."""

from typing import TYPE_CHECKING

from little_bell.errors import Refused
from little_bell.ops.logs import INFO, Log
from little_bell.tracking.hit import parse_id
from little_bell.values import NO_TENANT, is_tenant
from little_bell.wire.http import Request
from little_bell.wire.promised import Editing
from little_bell.wire.register import BARE_HEADERS, Handler, Register
from little_bell.wire.replies import Replies

if TYPE_CHECKING:
    from little_bell.store.switching import SwitchOff, SwitchOn


class Switches:
    """Handlers by the names of their routes; edits of the register."""

    def __init__(self, register: Register, replies: Replies, log: Log) -> None:
        self.register = register
        self.replies = replies
        self.log = log
        self.handlers: dict[str, Handler] = {
            "create_block": self.create_block,
            "delete_block": self.delete_block,
        }

    def create_block(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> Editing:
        """Note that an email, a link or the tenant is switched off."""
        from little_bell.api.blocks import parse_block
        from little_bell.store.switching import SwitchOff

        if not is_tenant(segments[1]):
            raise Refused(404, NO_TENANT)
        email, url = parse_block(request.body)
        edit = SwitchOff(segments[1].decode("ascii"), email, url)

        def done(editing: Editing) -> bytes:
            from little_bell.api.blocks import shown

            members = shown(edit.block, edit.email, edit.url, edit.at)
            if not edit.fresh:
                return self.replies.json(request, "create_block", 200, members)
            self._log("Switched off", edit, editing.address)
            place = f"{self.register.config.prefix}/{edit.tenant}/blocks/{edit.block}"
            headers = (("Location", place),)
            return self.replies.json(request, "create_block", 201, members, headers)

        return self.register.edit(request, "create_block", edit, peer, done)

    def delete_block(
        self, request: Request, segments: list[bytes], _query: bytes, peer: bytes
    ) -> Editing:
        """Note that something is switched on again."""
        from little_bell.store.switching import SwitchOn

        block = parse_id(segments[3])
        if not is_tenant(segments[1]) or not block or segments[3].endswith(b".gif"):
            raise Refused(404, "there is no such block")
        edit = SwitchOn(segments[1].decode("ascii"), block)

        def done(editing: Editing) -> bytes:
            self._log("Switched on", edit, editing.address)
            return self.replies.answer(request, "delete_block", 204, BARE_HEADERS, b"")

        return self.register.edit(request, "delete_block", edit, peer, done)

    def _log(self, message: str, edit: "SwitchOff | SwitchOn", address: str) -> None:
        self.log.write(INFO, message, tenant_id=edit.tenant, block=edit.block, ip_address=address)
