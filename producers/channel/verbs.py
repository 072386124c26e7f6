"""What a channel can ask for, written once for the plain and the asyncio client.

Both clients give `ask` and `tell`; a verb puts the request together and hands it to them, so
`Reply_co` is an answer in one and an awaitable answer in the other. Refusals are answers; see
`producers.channel.outcomes`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypedDict, TypeVar, Unpack

import msgspec

from producers.channel.ids import new_request_id
from producers.channel.requests import Item, on_hand_change, request, request_line
from producers.quantity import Quantity, to_pieces, to_unscaled
from schemas.limits import QUANTITY_MAX
from schemas.messages import (
    InventoryTransaction,
    LineDetail,
    RequestOptions,
    ReservationRequest,
    TransactionStatus,
)

Reply_co = TypeVar("Reply_co", covariant=True)
EventReply_co = TypeVar("EventReply_co", covariant=True)


class Rare(TypedDict, total=False):
    """Fields any verb takes and most calls leave out.

    Meanings and units as in ReservationRequest.avsc.
    """

    request_id: str
    order_id: str
    order_line_id: str
    external_reference: str
    priority: int
    measure: str
    check_availability: bool
    minimum_quantity: Quantity
    expires_at_ms: int | None
    expires_in_ms: int | None
    actor: str
    dry_run: bool
    explain: bool
    key: bytes | None
    timeout_ms: int | None


_DETAIL = frozenset(LineDetail.__struct_fields__)
_OPTIONS = frozenset(RequestOptions.__struct_fields__)


def single(
    action: str, channel: str, item: Item, quantity: Quantity, rare: Mapping[str, object]
) -> ReservationRequest:
    """Request of one line, with the rare fields sorted into line, detail and options.

    Raises:
        QuantityError: a quantity cannot be said in decimal(18,6).

    """
    fields = dict(rare)
    minimum = fields.get("minimum_quantity")
    if isinstance(minimum, Quantity):
        fields["minimum_quantity"] = to_unscaled(minimum)
    detail = msgspec.convert({k: v for k, v in fields.items() if k in _DETAIL}, LineDetail)
    options = msgspec.convert({k: v for k, v in fields.items() if k in _OPTIONS}, RequestOptions)
    line = request_line(
        item,
        quantity,
        detail,
        measure=str(fields.get("measure", "")),
        check_availability=bool(fields.get("check_availability", True)),
    )
    return request(
        action,
        [line],
        request_id=str(fields.get("request_id") or new_request_id()),
        organization_id=item.organization_id,
        channel=channel,
        options=options,
    )


class Verbs(ABC, Generic[Reply_co, EventReply_co]):
    """The verbs of a channel client."""

    channel: str

    @abstractmethod
    def ask(
        self,
        asked: ReservationRequest,
        *,
        key: bytes | None = None,
        timeout_ms: int | None = None,
    ) -> Reply_co:
        """Send a request as it is and give its answer.

        `key` is computed from the first line when None. The same request may be sent any number of
        times: it is decided once.

        Raises:
            ChannelError: the client is closed or cannot work. Nothing was sent.
            InFlightError: the id is under way with other content. Nothing was sent.
            RecordTooLargeError: nothing was sent.

        """

    @abstractmethod
    def tell(
        self,
        transaction: InventoryTransaction,
        *,
        key: bytes | None = None,
        timeout_ms: int | None = None,
    ) -> EventReply_co:
        """Send an inventory transaction and give the event that says how it ended.

        Raises as `ask`.
        """

    @abstractmethod
    def lookup(self, request_id: str, *, timeout_ms: int | None = None) -> Reply_co:
        """Settle a request of this client whose outcome was unknown.

        An answer that came late is given at once. Else the same bytes are sent again: decided
        before, the answer is the first one with `replayed`; never arrived, it is decided now.

        Raises:
            ChannelError: this client knows no unsettled request of that id (`ask` it again
            instead).

        """

    def reserve(self, item: Item, quantity: Quantity, **rare: Unpack[Rare]) -> Reply_co:
        """Hold a quantity. Negative gives back, only with `check_availability=False`."""
        return self._single("RESERVE", item, quantity, rare)

    def availability(self, item: Item, **rare: Unpack[Rare]) -> Reply_co:
        """Ask what could be held, and why, without holding it.

        A dry run of more than anybody has: refused with `available` and the terms of the level
        that binds.
        """
        asked: Rare = {**rare, "dry_run": True, "explain": True}
        return self._single("RESERVE", item, to_pieces(QUANTITY_MAX), asked)

    def unreserve(
        self, item: Item, quantity: Quantity, reservation_id: str, **rare: Unpack[Rare]
    ) -> Reply_co:
        """Give back by reservation id, oldest hold first; the excess is reported."""
        return self._single("UNRESERVE", item, quantity, rare, reservation_id=reservation_id)

    def release(
        self, item: Item, hold_id: str, quantity: Quantity = 0, **rare: Unpack[Rare]
    ) -> Reply_co:
        """Give back one hold, all that is left of it when `quantity` is 0."""
        return self._single("RELEASE", item, quantity, rare, hold_id=hold_id)

    def extend(self, item: Item, hold_id: str, **rare: Unpack[Rare]) -> Reply_co:
        """Move a hold's expiry: `expires_at_ms`, or `expires_in_ms` after the append time."""
        return self._single("EXTEND", item, 0, rare, hold_id=hold_id)

    def confirm(self, item: Item, hold_id: str, **rare: Unpack[Rare]) -> Reply_co:
        """Drop a hold's expiry."""
        return self._single("CONFIRM", item, 0, rare, hold_id=hold_id)

    def amend(self, item: Item, hold_id: str, quantity: Quantity, **rare: Unpack[Rare]) -> Reply_co:
        """Change a hold's total quantity, up or down, without a gap."""
        return self._single("AMEND", item, quantity, rare, hold_id=hold_id)

    def transfer(
        self,
        item: Item,
        hold_id: str,
        target_dimensions: Mapping[str, str],
        quantity: Quantity = 0,
        **rare: Unpack[Rare],
    ) -> Reply_co:
        """Move a hold (`quantity` 0: all of it) to other dimension values of its partition."""
        return self._single(
            "TRANSFER",
            item,
            quantity,
            rare,
            hold_id=hold_id,
            target_dimensions=dict(target_dimensions),
        )

    def on_hand(
        self,
        item: Item,
        changes: Mapping[str, Quantity],
        *,
        source: str,
        mode: str = "ADD",
        modified_at_ms: int | None = None,
        event_id: str = "",
        timeout_ms: int | None = None,
    ) -> EventReply_co:
        """Change measures of a stock row.

        ADD deltas, or SET counted values (with the count's own time).
        """
        change = on_hand_change(
            event_id or new_request_id(),
            item,
            changes,
            source=source,
            mode=mode,
            modified_at_ms=modified_at_ms,
        )
        return self.tell(change, timeout_ms=timeout_ms)

    def transaction(
        self,
        item: Item,
        status: TransactionStatus,
        changes: Mapping[str, Quantity],
        *,
        source: str,
        event_id: str = "",
        timeout_ms: int | None = None,
    ) -> EventReply_co:
        """Say that an ERP transaction reached a status, and which measures changed by it."""
        change = on_hand_change(
            event_id or new_request_id(), item, changes, source=source, transaction=status
        )
        return self.tell(change, timeout_ms=timeout_ms)

    def _single(
        self, action: str, item: Item, quantity: Quantity, rare: Rare, **more: object
    ) -> Reply_co:
        asked = single(action, self.channel, item, quantity, {**rare, **more})
        return self.ask(asked, key=rare.get("key"), timeout_ms=rare.get("timeout_ms"))
