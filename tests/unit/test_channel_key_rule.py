"""The key rule of a configuration document gives the keys that the workers compute."""

import msgspec
import pytest

from processor.inventory.configuration import PartitionRule, default, to_json
from processor.inventory.rules import Rules
from producers.channel import ChannelError, Item
from producers.channel.key_rule import key_rule_of
from producers.channel.requests import DEFAULT_NAMES, key_by_location

ITEM = Item("usmf", "D0002", {"siteId": "1", "LOCATIONID": "11", "colorid": "red"})
ITS_OWN = {"InventSiteId": "1", "inventLOCATIONid": "11", "InventColorId": "red"}
OF_THE_ERP = Item("usmf", "D0002", ITS_OWN, "FNO")


@pytest.mark.parametrize("item", [ITEM, OF_THE_ERP], ids=["base names", "names of a data source"])
@pytest.mark.parametrize("rule", ["by-location", "by-location-and-product", "by-product"])
def test_client_and_worker_agree(rule: str, item: Item) -> None:
    """Every rule, names in any case, and those of a data source."""
    partition = msgspec.convert({"rule": rule, "buckets": 7}, PartitionRule)
    configuration = msgspec.structs.replace(default(), partition=partition)
    values = () if rule == "by-product" else ("1", "11")
    expected = Rules(configuration).record_key("usmf", "D0002", values)
    assert key_rule_of(to_json(configuration))(item) == expected


def test_names_are_those_of_the_configuration() -> None:
    """What it calls site and location, in whatever case, and for its data source alone."""
    document = b"""{"data_sources": {"POS": {"dimension_mappings": {"Shop": "SiteId"}}}}"""
    key_of = key_rule_of(document)
    for source, site in (("pos", "7"), ("fno", ""), ("", "")):
        item = Item("usmf", "D0002", {"SHOP": "7", "locationid": "11"}, source)
        assert key_of(item) == f"usmf|{site}|11".encode()


def test_without_a_configuration_it_is_that_of_the_worker() -> None:
    """Which begins with the default one, and its names."""
    mapping = default().data_sources["fno"].dimension_mappings
    of_the_key = {own: base for own, base in mapping.items() if base in {"siteid", "locationid"}}
    assert {"fno": of_the_key} == DEFAULT_NAMES
    assert key_by_location(OF_THE_ERP) == key_by_location(ITEM) == b"usmf|1|11"


def test_a_rule_of_a_later_release_is_refused() -> None:
    """A key that the workers would not compute is never made up."""
    with pytest.raises(ChannelError, match="by-moon"):
        key_rule_of(b'{"version": 3, "partition": {"rule": "by-moon"}}')
    with pytest.raises(ChannelError, match="cannot be read"):
        key_rule_of(b"[]")
