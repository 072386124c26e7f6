"""The commands people use, and the demo's player, on a real stack with a real worker."""

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from holdfast.cli import app
from holdfast.demo.play import Player
from holdfast.demo.worked_example import WORKED_EXAMPLE
from producers.channel import ChannelClient
from producers.channel.client import connect_codec
from producers.channel.follow import Follower
from producers.settings import Settings
from schemas import topics

pytestmark = pytest.mark.kafka

PLACE = ("--org", "usmf", "--site", "1", "--warehouse", "11", "--color", "red", "--size", "small")
Run = Callable[..., Any]


@pytest.fixture
def environment(running: Settings, tmp_path: Path) -> dict[str, str]:
    """Environment in which the commands find that stack."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": running.bootstrap_servers,
        "SCHEMA_REGISTRY_URL": running.registry_url,
        "HOLDFAST_SCHEMA_CACHE": running.schema_cache,
        "HOLDFAST_HOME": str(tmp_path),
    }


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run a command in this process."""
    return lambda *arguments: CliRunner().invoke(app, arguments, env=environment)


def said(result: Any) -> dict[str, Any]:
    """The JSON line a command printed."""
    return dict(json.loads(result.stdout.strip().splitlines()[-1]))


def test_reserve_look_and_release(run: Run, product: str) -> None:
    """Stock comes in, is held, shown, given back; each command says so and exits 0."""
    change = run("onhand", product, "10", *PLACE)
    assert change.exit_code == 0, change.output
    assert "available 10" in change.stdout
    held = run("reserve", product, "2.5", *PLACE, "--order", "SO-1", "--json")
    assert held.exit_code == 0, held.output
    line = said(held)["lines"][0]
    assert (line["outcome"], line["quantity"], line["available"]) == ("ACCEPTED", "2.5", "7.5")
    look = run("onhand", product, *PLACE)
    assert look.exit_code == 0, look.output
    assert look.stdout.startswith("available  7.5")
    assert "iv.softreserved" in look.stdout
    given = run("release", product, line["hold_id"], *PLACE)
    assert given.exit_code == 0, given.output
    assert "available    10" in given.stdout


def test_unreserve_by_reservation_id(run: Run, product: str) -> None:
    """What is asked back beyond what is reserved is reported."""
    run("onhand", product, "10", *PLACE)
    line = said(run("reserve", product, "3", *PLACE, "--json"))["lines"][0]
    back = run("unreserve", product, "5", "--reservation", line["reservation_id"], *PLACE)
    assert back.exit_code == 0, back.output
    assert "PARTIAL" in back.stdout
    assert "not reserved 2" in back.stdout


def test_refusal_is_an_answer_with_exit_code_1(run: Run, product: str) -> None:
    """A refusal exits 1, says why and how much there is, and is the same when repeated."""
    request_id = f"r-{uuid.uuid4()}"
    first = run("reserve", product, "1", *PLACE, "--id", request_id)
    assert first.exit_code == 1
    assert "INSUFFICIENT_STOCK" in first.stdout
    assert "available    0" in first.stdout
    run("onhand", product, "10", *PLACE)
    again = run("reserve", product, "1", *PLACE, "--id", request_id)
    assert again.exit_code == 1
    assert "answered before" in again.stdout


def test_answer_is_shown_later(run: Run, product: str) -> None:
    """What a request was answered is found by its id alone; an unknown id exits 3."""
    request_id = f"r-{uuid.uuid4()}"
    run("reserve", product, "1", *PLACE, "--id", request_id)
    found = run("answer", request_id, "--since", "10m", "--json")
    assert found.exit_code == 0, found.output
    assert said(found)["outcome"] == "INSUFFICIENT_STOCK"
    assert run("answer", "never-asked").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("reserve", "P", "ten", *PLACE), "not a number"),
        (("reserve", "P", "0.0000001", *PLACE), "six decimals"),
        (("reserve", "P", "1", *PLACE, "-d", "batchid"), "name=value"),
        (("reserve", "P", "1", *PLACE, "--expires-in", "soon"), "15m"),
        (("watch", "--only", "gossip"), "dead-letters"),
        (("demo", "--scenario", "nothing"), "worked-example"),
    ],
)
def test_wrong_words_are_explained(run: Run, arguments: tuple[str, ...], words: str) -> None:
    """What cannot be asked exits 2 with the remedy, and never with a traceback."""
    result = run(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.output


def test_no_stack_says_how_to_start_one(tmp_path: Path) -> None:
    """Without a running stack a command names the ways to have one."""
    environment = {
        "HOLDFAST_HOME": str(tmp_path),
        "KAFKA_BOOTSTRAP_SERVERS": "",
        "SCHEMA_REGISTRY_URL": "",
    }
    result = CliRunner().invoke(app, ["reserve", "P", "1", *PLACE], env=environment)
    assert result.exit_code == 2
    assert "make run" in result.stderr


def test_watch_follows_and_ends_cleanly(
    environment: dict[str, str], run: Run, product: str
) -> None:
    """Watch shows what is committed while it runs, and Ctrl-C ends it with exit code 0.

    It shows everybody's; what others left on the stack may still be decided, or expire.
    """
    watcher = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "watch", "--json"],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert watcher.stderr is not None
        assert watcher.stdout is not None
        assert "following" in watcher.stderr.readline()
        run("onhand", product, "10", *PLACE)
        run("reserve", product, "1", *PLACE, "--id", f"seen-{product}")
        own = (json.loads(line) for line in watcher.stdout if product in line)
        change, answer = next(own), next(own)
        assert (change["topic"], change["product_id"]) == (topics.EVENTS, product)
        assert (answer["topic"], answer["request_id"]) == (topics.RESULTS, f"seen-{product}")
        watcher.send_signal(signal.SIGINT)
        assert watcher.wait(20) == 0
        assert "Traceback" not in watcher.stderr.read()
    finally:
        watcher.kill()
        watcher.communicate()


def test_every_command_has_examples(run: Run) -> None:
    """The help of every command shows how it is used."""
    for command in ("reserve", "unreserve", "release", "onhand", "answer", "watch", "demo"):
        shown = run(command, "--help")
        assert shown.exit_code == 0
        assert f"holdfast {command}" in shown.stdout


def test_demo_sees_a_difference(running: Settings, product: str) -> None:
    """A step that comes out otherwise than expected is marked, and only that one."""
    wrong = msgspec.structs.replace(WORKED_EXAMPLE.steps[1], expects={"available": "8"})
    steps = (WORKED_EXAMPLE.steps[0], wrong, *WORKED_EXAMPLE.steps[2:5])
    scenario = msgspec.structs.replace(WORKED_EXAMPLE, steps=steps)
    codec = connect_codec(running)
    with (
        ChannelClient(running, codec=codec) as client,
        Follower(running, codec, (topics.EVENTS,)) as follower,
    ):
        played = list(Player(client, follower, scenario, product).play())
    assert [step.ok for step in played] == [True, False, True, True, True]
    assert played[1].actual["available"] == "9"


def test_demo_on_the_running_stack(run: Run) -> None:
    """With --running the worked example is played on the running stack with a fresh product."""
    for _ in range(2):
        result = run("demo", "--running", "--scenario", "worked-example", "--json")
        assert result.exit_code == 0, result.output
        assert said(result)["ok"] is True
