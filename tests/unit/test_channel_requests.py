"""What a caller says becomes the right request: quantities, keys, ids, settings."""

from decimal import Decimal

import msgspec
import pytest

from producers.channel.ids import new_request_id
from producers.channel.requests import Item, key_by_location
from producers.channel.verbs import single
from producers.quantity import QuantityError, pieces_text, to_pieces, to_unscaled
from producers.settings import Settings
from schemas.limits import QUANTITY_MAX
from schemas.messages import LineDetail, RequestOptions

ITEM = Item("usmf", "D0002", {"SiteId": "1", "locationid": "11", "colorid": "red"})


@pytest.mark.parametrize(
    ("said", "unscaled"),
    [
        (1, 1_000_000),
        (-3, -3_000_000),
        ("0.000001", 1),
        ("1e3", 1_000_000_000),
        (Decimal("2.50"), 2_500_000),
        ("999999999999.999999", QUANTITY_MAX),
    ],
)
def test_quantity_is_exact(said: int | str | Decimal, unscaled: int) -> None:
    """A quantity becomes its integer of 10^-6, and reads back as the same number."""
    assert to_unscaled(said) == unscaled
    assert to_pieces(unscaled) == Decimal(said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "ten",
        "NaN",
        "Infinity",
        "1e999999",
        "0.0000001",
        f"1.{'0' * 30}1",
        "1e-99999999999999",
        "1000000000000",
        0.5,
        True,
        "1,5",
    ],
)
def test_quantity_that_cannot_be_said_is_refused(said: object) -> None:
    """What decimal(18,6) cannot hold is refused by name; floats and booleans are never taken."""
    with pytest.raises(QuantityError):
        to_unscaled(said)  # type: ignore[arg-type]


def test_pieces_read_like_people_write() -> None:
    """No exponent and no trailing zeros, however large or small."""
    assert pieces_text(10_000_000) == "10"
    assert pieces_text(-500_000) == "-0.5"
    assert pieces_text(1) == "0.000001"
    assert pieces_text(QUANTITY_MAX) == "999999999999.999999"
    assert pieces_text(0) == "0"


def test_key_names_are_case_insensitive() -> None:
    """The key is organization, site and location, whatever the case of the dimension names."""
    assert key_by_location(ITEM) == b"usmf|1|11"
    assert key_by_location(Item("usmf", "D0002", {})) == b"usmf||"


def test_request_ids_are_in_the_order_of_time() -> None:
    """Ids are UUIDs of version 7: distinct, and a later one is not smaller by its time part."""
    ids = [new_request_id() for _ in range(1_000)]
    assert len(set(ids)) == len(ids)
    assert all(one[14] == "7" and one[19] in "89ab" for one in ids)
    stamps = [one[:13] for one in ids]
    assert stamps == sorted(stamps)


def test_common_line_carries_no_detail() -> None:
    """A plain reservation has neither detail nor options, so it decodes fast."""
    asked = single("RESERVE", "web-shop", ITEM, 1, {"order_id": "", "dry_run": False})
    assert asked.lines[0].detail is None
    assert asked.options is None
    assert asked.request_id


def test_rare_fields_find_their_place() -> None:
    """Rare fields are sorted into line, detail and options, and quantities among them scaled."""
    rare = {
        "request_id": "r-1",
        "order_id": "SO-1",
        "minimum_quantity": "0.5",
        "measure": "iv.softreserved",
        "check_availability": False,
        "explain": True,
        "key": b"ignored here",
    }
    asked = single("RESERVE", "web-shop", ITEM, 1, rare)
    line = asked.lines[0]
    assert asked.request_id == "r-1"
    assert (line.measure, line.check_availability) == ("iv.softreserved", False)
    assert line.detail == LineDetail(order_id="SO-1", minimum_quantity=500_000)
    assert asked.options == RequestOptions(explain=True)


def test_environment_wins_over_the_running_stack() -> None:
    """An address in the environment wins over the one that is known of; text becomes numbers."""
    known = {"bootstrap_servers": "127.0.0.1:1", "registry_url": "http://127.0.0.1:2"}
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
        "HOLDFAST_CHANNEL_TIMEOUT_MS": "250",
        "KAFKA_SASL_USERNAME": "holdfast",
        "KAFKA_SASL_PASSWORD": "secret",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    }
    settings = Settings.from_environment(known, environment)
    assert settings.bootstrap_servers == "broker:9092"
    assert settings.registry_url == "http://127.0.0.1:2"
    assert settings.timeout_ms == 250
    assert settings.librdkafka()["sasl.password"] == "secret"
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    "environment",
    [
        {"SCHEMA_REGISTRY_URL": "http://127.0.0.1:2"},
        {
            "KAFKA_BOOTSTRAP_SERVERS": "b:1",
            "SCHEMA_REGISTRY_URL": "http://127.0.0.1:2",
            "HOLDFAST_CHANNEL_TIMEOUT_MS": "0",
        },
    ],
)
def test_wrong_settings_are_refused_whole(environment: dict[str, str]) -> None:
    """A missing address or a value out of range is refused, and named."""
    with pytest.raises(msgspec.ValidationError, match=r"bootstrap_servers|timeout_ms"):
        Settings.from_environment({}, environment)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "security_protocol"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USERNAME"),
        ({"KAFKA_SASL_MECHANISM": "GSSAPI"}, "sasl_mechanism"),
        ({"KAFKA_SSL_CAFILE": "/nowhere/ca.pem"}, "KAFKA_SSL_CAFILE: there is no file"),
        ({"KAFKA_SSL_KEYFILE": "/nowhere/key.pem"}, "KAFKA_SSL_KEYFILE: there is no file"),
    ],
)
def test_security_that_cannot_work_is_refused_at_start(said: dict[str, str], told: str) -> None:
    """What is missing or unknown is named, before any client is made; no secret is quoted."""
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": "b:1",
        "SCHEMA_REGISTRY_URL": "http://127.0.0.1:2",
        "KAFKA_SASL_PASSWORD": "hunter2",
        **said,
    }
    with pytest.raises(msgspec.ValidationError, match=told) as refused:
        Settings.from_environment({}, environment)
    assert "hunter2" not in str(refused.value)


def test_an_option_wins_over_the_environment_and_keeps_its_security() -> None:
    """Whoever names another broker is let in there as the environment says."""
    environment = {
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": "holdfast",
        "KAFKA_SASL_PASSWORD": "secret",
        "SCHEMA_REGISTRY_URL": "http://user:hidden@registry",
    }
    given = {"bootstrap_servers": "other:9093", "timeout_ms": None}
    settings = Settings.from_environment({}, environment, given=given)
    told = settings.librdkafka()
    assert (told["bootstrap.servers"], told["sasl.username"]) == ("other:9093", "holdfast")
    assert "hidden" not in repr(settings)
