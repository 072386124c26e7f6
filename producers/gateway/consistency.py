"""A query after a write by the same caller sees it: wait for the view, within a bound.

`Holdfast-Consistency: eventual` in a request opts out. In the answer it says what was got:
`read-your-writes`, or `eventual` when the view did not get there in time.
"""

import asyncio
import time
from typing import Final

from producers.gateway.call import Call
from producers.gateway.positions import HEADER as POSITION_HEADER, Position, from_header, furthest
from producers.gateway.problems import bad

HEADER: Final = "Holdfast-Consistency"
EVENTUAL: Final = "eventual"
READ_YOUR_WRITES: Final = "read-your-writes"
_ASKED: Final = HEADER.lower().encode()
_CARRIED: Final = POSITION_HEADER.lower().encode()


async def settle(call: Call) -> dict[str, str]:
    """Wait until the view holds what the caller wrote; headers that say whether it does.

    Raises:
        Problem: 400, a header is not understood.

    """
    asked = call.header(_ASKED, READ_YOUR_WRITES).lower()
    if asked not in {EVENTUAL, READ_YOUR_WRITES}:
        raise bad(f"{HEADER}: {EVENTUAL} or {READ_YOUR_WRITES}")
    if asked == EVENTUAL:
        return {HEADER: EVENTUAL}
    gateway, client_id = call.gateway, call.caller.client_id
    positions = gateway.positions.of(client_id)
    carried = call.header(_CARRIED)
    if carried:
        try:
            positions = furthest([*positions, *from_header(carried)])
        except ValueError as error:
            raise bad(f"{POSITION_HEADER}: topic/partition/offset, comma-separated") from error
    if not positions:
        return {HEADER: READ_YOUR_WRITES}
    until_s = time.monotonic() + gateway.settings.consistency_ms / 1000
    reached = await asyncio.gather(*(_reached(call, one, until_s) for one in positions))
    if all(reached):
        return {HEADER: READ_YOUR_WRITES}
    gateway.metrics.stale.inc()
    return {HEADER: EVENTUAL}


async def _reached(call: Call, position: Position, until_s: float) -> bool:
    within_s = max(0.0, until_s - time.monotonic())
    topic, partition, offset = position
    if not await call.gateway.queries.reached(partition, topic, offset, within_s):
        return False
    call.gateway.positions.seen(call.caller.client_id, position)
    return True
