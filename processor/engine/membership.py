"""Who the worker is in its consumer group: what a transaction is fenced by (KIP-447)."""

import msgspec


class Membership(msgspec.Struct, frozen=True):
    """One worker's place in one generation of the group.

    Attributes:
        instance_id: its name under static membership (KIP-345), None without.

    """

    group_id: str
    member_id: str
    generation: int
    instance_id: str | None
