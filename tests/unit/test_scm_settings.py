"""The connector's settings: read once, checked, secrets unseen; and how far an outbox is safe."""

import msgspec
import pytest

from producers.scm.outbox import Frontier, Mark
from producers.scm.run import without_password
from producers.scm.settings import ConnectorSettings
from producers.settings import Settings

CA = __file__  # Any file that is there.
KAFKA = Settings(
    bootstrap_servers="k:1",
    registry_url="http://r",
    security_protocol="SASL_SSL",
    sasl_username="connector",
    sasl_password="hush-hush-hush",
    ssl_cafile=CA,
)
SECRET = "a-secret-of-some-length"


def test_settings_come_from_the_environment_and_the_command_line_wins() -> None:
    """Empty is not given; numbers are read as numbers."""
    environment = {
        "HOLDFAST_CONNECTOR_NAME": "erp-1",
        "HOLDFAST_CONNECTOR_MAPPING": "odoo",
        "HOLDFAST_CONNECTOR_POLL_MS": "250",
        "HOLDFAST_CONNECTOR_TABLE": "",
        "HOLDFAST_WEBHOOK_SECRETS": f"{SECRET},{SECRET}2",
    }
    given = {"mapping": "sap", "name": None}
    settings = ConnectorSettings.from_environment(KAFKA, given, environment)
    assert (settings.name, settings.mapping, settings.poll_ms) == ("erp-1", "sap", 250)
    assert settings.secrets == (SECRET, f"{SECRET}2")
    assert settings.table == "holdfast_outbox"


def test_kafka_security_is_passed_on_and_no_secret_is_shown() -> None:
    """SASL and TLS reach the client; passwords and webhook secrets reach no representation."""
    settings = ConnectorSettings.from_environment(KAFKA, {"secrets": SECRET}, {})
    client = settings.kafka.librdkafka()
    assert (client["sasl.username"], client["sasl.password"]) == ("connector", "hush-hush-hush")
    assert (client["security.protocol"], client["ssl.ca.location"]) == ("SASL_SSL", CA)
    assert SECRET not in repr(settings)
    assert "hush-hush-hush" not in repr(settings)


@pytest.mark.parametrize(
    "words",
    [{"name": "a b"}, {"table": "x; DROP TABLE y"}, {"poll_ms": 0}, {"secrets": "too-short"}],
)
def test_values_out_of_range_are_refused(words: dict[str, object]) -> None:
    """And the refusal does not show the value of a secret."""
    with pytest.raises(msgspec.ValidationError) as refused:
        ConnectorSettings.from_environment(KAFKA, words, {})
    assert "too-short" not in str(refused.value)


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgres://erp:hush@db:5432/erp?sslmode=require", "postgres://db:5432/erp"),
        ("postgresql://db/erp?password=hush", "postgresql://db/erp"),
    ],
)
def test_a_database_is_logged_without_its_password(dsn: str, shown: str) -> None:
    """Neither in the user part nor in the parameters."""
    assert without_password(dsn) == shown


def test_the_frontier_waits_for_everybody_who_was_there() -> None:
    """An id is final when no transaction older than the mark is open; one mark at a time."""
    frontier = Frontier()
    assert frontier.wants(8)
    frontier.set_mark(Mark(highest=8, number=105))
    frontier.settle(oldest_open=104)
    assert (frontier.final, frontier.held_back, frontier.wants(9)) == (0, True, False)
    frontier.settle(oldest_open=105)
    assert (frontier.final, frontier.held_back) == (8, False)
    assert frontier.wants(9)
    assert not frontier.wants(8)
