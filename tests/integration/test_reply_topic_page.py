"""The page for channels in other languages is true: its program runs as it stands there."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from processor.replies import CORRELATION_ID, REPLY_PARTITION, REPLY_TOPIC
from producers.channel import ChannelClient, Item
from producers.settings import Settings
from tests.support.replying import ALLOWED

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(200)]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "foreign-channel.md").read_text()
(PROGRAM,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PLACE = {"siteid": "1", "locationid": "11", "colorid": "red", "sizeid": "small"}


def test_the_program_of_the_page_reserves(
    running: Settings, product: str, of_its_own: Callable[[str], str], tmp_path: Path
) -> None:
    """Run away from the repository, it gets its hold; our own client then sees two pieces less."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", of_its_own(PROGRAM)],
        cwd=tmp_path,
        env={
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": running.registry_url,
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"code 1 hold \w+-\d+ available 8(\.0+)?\n", done.stdout)
    with ChannelClient(running) as client:
        answer = client.availability(Item("usmf", product, PLACE))
    assert answer.lines[0].available == 8_000_000


def test_the_program_uses_nothing_of_ours() -> None:
    """A stock Kafka client, an Avro library and the language's own: nothing else is imported."""
    imported = set(re.findall(r"^(?:import|from) (\w+)", PROGRAM, re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"confluent_kafka", "fastavro"}


def test_the_page_names_the_headers_and_a_topic_that_is_allowed() -> None:
    """Header names and the topic of the page are those of the worker and of this test."""
    for word in (REPLY_TOPIC, REPLY_PARTITION, CORRELATION_ID, ALLOWED):
        assert f"`{word}`" in PAGE or f'"{word}"' in PAGE
