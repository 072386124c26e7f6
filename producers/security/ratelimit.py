"""A token bucket per client: a burst at once, then so many a second.

The rule: the number of clients that are remembered is bounded; the one unseen longest is forgotten,
and would by then have a full bucket in any case, or is one of too many to tell apart.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

CLIENTS_MAX: Final = 10_000


class RateLimit:
    """Buckets by client."""

    def __init__(
        self, rate_per_s: float, burst: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate_per_s = rate_per_s
        self._burst = float(burst)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_s(self, client: str, cost: float = 1.0) -> float:
        """Take from the client's bucket: 0.0, or how long until there is enough (nothing taken).

        A cost above the burst is served from a full bucket, which is then in debt.
        """
        if not self._rate_per_s:
            return 0.0
        now_s = self._clock()
        held, seen_s = self._buckets.get(client, (self._burst, now_s))
        held = min(self._burst, held + (now_s - seen_s) * self._rate_per_s)
        needed = min(cost, self._burst)
        allowed = held >= needed
        self._buckets[client] = (held - cost if allowed else held, now_s)
        self._buckets.move_to_end(client)
        if len(self._buckets) > CLIENTS_MAX:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (needed - held) / self._rate_per_s
