"""Who the worker is in its consumer group, in the form librdkafka wants it for fencing (KIP-447).

The group is Faust's own aiokafka group, so librdkafka's `consumer_group_metadata()` cannot be asked
for it. What that call returns is plain bytes, and this module builds the same bytes. At start the
layout is checked against what the library itself produces; a difference refuses the start.
"""

import struct
from typing import Final

import msgspec
from confluent_kafka import Consumer

from processor.engine.faults import Fault

_MAGIC: Final = b"CGMDv2:"
_NO_INSTANCE: Final = b"\x01"
_HAS_INSTANCE: Final = b"\x00"


class Membership(msgspec.Struct, frozen=True):
    """One worker's place in one generation of the group."""

    group_id: str
    member_id: str
    generation: int
    instance_id: str | None

    def metadata(self) -> bytes:
        """Group metadata for `send_offsets_to_transaction`.

        A stale generation is refused with it.
        """
        head = _MAGIC + struct.pack("=i", self.generation)
        head += self.group_id.encode() + b"\0" + self.member_id.encode() + b"\0"
        if self.instance_id is None:
            return head + _NO_INSTANCE
        return head + _HAS_INSTANCE + self.instance_id.encode() + b"\0"


def check_layout(instance_id: str | None = None) -> None:
    """Compare the layout with librdkafka's own, with or without static membership.

    Raises:
        Fault: this librdkafka serialises group metadata differently; fencing would not work.

    """
    settings = {"bootstrap.servers": "", "group.id": "layout-check", "log_level": 0}
    if instance_id is not None:
        settings["group.instance.id"] = instance_id
    consumer = Consumer(settings)
    theirs = consumer.consumer_group_metadata()
    consumer.close()
    ours = Membership("layout-check", "", -1, instance_id).metadata()
    if theirs != ours:
        raise Fault(
            f"librdkafka serialises group metadata as {theirs!r}, expected {ours!r}: "
            "install the confluent-kafka version of requirements.lock"
        )
