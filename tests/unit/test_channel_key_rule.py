"""The key rule of a configuration document gives the keys that the workers compute."""

import msgspec
import pytest

from processor.inventory.configuration import PartitionRule, default, to_json
from processor.inventory.rules import Rules
from producers.channel import ChannelError, Item
from producers.channel.key_rule import key_rule_of

ITEM = Item("usmf", "D0002", {"siteId": "1", "LOCATIONID": "11", "colorid": "red"})


@pytest.mark.parametrize("rule", ["by-location", "by-location-and-product", "by-product"])
def test_client_and_worker_agree(rule: str) -> None:
    """Every rule, names in any case."""
    partition = msgspec.convert({"rule": rule, "buckets": 7}, PartitionRule)
    configuration = msgspec.structs.replace(default(), partition=partition)
    values = () if rule == "by-product" else ("1", "11")
    expected = Rules(configuration).record_key("usmf", "D0002", values)
    assert key_rule_of(to_json(configuration))(ITEM) == expected


def test_a_rule_of_a_later_release_is_refused() -> None:
    """A key that the workers would not compute is never made up."""
    with pytest.raises(ChannelError, match="by-moon"):
        key_rule_of(b'{"version": 3, "partition": {"rule": "by-moon"}}')
    with pytest.raises(ChannelError, match="cannot be read"):
        key_rule_of(b"[]")
