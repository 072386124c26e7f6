"""How the tests are spread over the workers of pytest-xdist, where it runs them (`-n 2`).

The rule: what shares servers stays together and in order, so that they are started once; what takes
longest begins first, so that all workers end at about the same time. No worker chooses a port that
another one may choose: several tests let a server go and start it again on the port it had.
"""

import contextlib
from pathlib import PurePosixPath
from typing import Final

import pytest
from xdist.scheduler import LoadScopeScheduling

from compose import ports

SHARED: Final = "what asks a server of the session"
SHARING: Final = (
    "tests/integration/test_view.py",
    "tests/integration/test_view_bounds.py",
    "tests/integration/test_audit.py",
    "tests/integration/test_offsets_command.py",
    "tests/integration/test_configuration_apply.py",
    "tests/integration/test_channel_worker.py",
    "tests/integration/test_people.py",
    "tests/integration/test_people_holds.py",
    "tests/integration/test_producers_page.py",
    "tests/integration/test_reply_topic_page.py",
    "tests/integration/test_scm_page.py",
    "tests/integration/test_scm_webhook.py",
    "tests/integration/test_scm_files.py",
    "tests/integration/test_scm_outbox.py",
    "tests/integration/test_gateway.py",
    "tests/integration/test_reply_topic.py",
    "tests/integration/test_secured.py",
    "tests/integration/test_transaction.py",
    "tests/contract/test_partitioning.py",
    "tests/contract/test_registry.py",
    "tests/contract/test_topics.py",
    "tests/property/test_view_applier.py",
    "tests/unit/test_view_changelog.py",
)
"""Files that ask the session's servers, or the worker of tests/integration/conftest.py: on one
worker of pytest-xdist these are started once. In this order: what reads all that was ever written
comes before those who write much. Together well under half of the time, or they would end last."""

HTTP: Final = "the HTTP contract"
HTTP_STARTS: Final = ("test_api_", "test_v1", "test_openapi")
"""Files that ask the one gateway of tests/contract/conftest.py."""

APART: Final = frozenset(
    {
        "tests/fault/test_campaign.py",
        "tests/integration/test_engine.py",
        "tests/integration/test_migrate.py",
    }
)
"""Files whose tests share nothing: each test brings its own servers."""

SECONDS: Final = {
    SHARED: 480,
    "tests/integration/test_bench.py": 130,
    "tests/fault/test_campaign.py": 120,
    HTTP: 120,
    "tests/integration/test_stack.py": 60,
    "tests/unit/test_core_from_source.py": 60,
    "tests/integration/test_migrate.py": 80,
    "tests/property/test_crossing.py": 40,
    "tests/integration/test_run.py": 25,
    "tests/contract/test_compiled_twin.py": 20,
    "tests/integration/test_engine.py": 20,
    "tests/integration/test_bad_input.py": 20,
    "tests/integration/test_channel.py": 20,
    "tests/integration/test_demo.py": 20,
    "tests/integration/test_gateway_by_product.py": 20,
    "tests/fault/test_model_agrees.py": 15,
    "tests/property/test_decisions.py": 15,
}
"""About how long the long ones take; the order is all that matters. Others count as nothing."""

SERVERS_STOP_WITHIN_S: Final = 60


def scope_of(node_id: str) -> str:
    """What a test must not be parted from: its file, unless it needs more company or none."""
    path = node_id.split("::", 1)[0]
    if path in APART:
        return node_id
    if path in SHARING:
        return SHARED
    place = PurePosixPath(path)
    if place.parent.name == "contract" and place.name.startswith(HTTP_STARTS):
        return HTTP
    return path


def seconds_of(scope: str) -> int:
    """How long a scope takes, as far as it matters."""
    return SECONDS.get(scope, SECONDS.get(scope.split("::", 1)[0], 0))


class Spread(LoadScopeScheduling):
    """A worker that is nearly done gets the longest scope that nobody has begun."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)


def longest_first(items: list[pytest.Item]) -> None:
    """Order tests by the time of their scope, and keep each scope together."""
    places: dict[str, int] = {}
    for item in items:
        places.setdefault(scope_of(item.nodeid), len(places))

    def rank(item: pytest.Item) -> tuple[int, int, int]:
        scope = scope_of(item.nodeid)
        path = item.nodeid.split("::", 1)[0]
        place = SHARING.index(path) if scope == SHARED else 0
        return -seconds_of(scope), places[scope], place

    items.sort(key=rank)


def take_own_ports(number: int, workers: int) -> None:
    """Leave this worker, the `number`th from 0, its share of the ports that servers may get."""
    share = (ports.FREE_PORT_MAX + 1 - ports.FREE_PORT_MIN) // workers
    ports.FREE_PORT_MIN += number * share
    ports.FREE_PORT_MAX = ports.FREE_PORT_MIN + share - 1


def let_workers_stop_their_servers(config: pytest.Config) -> None:
    """Wait for workers that Ctrl-C ended too; pytest-xdist would cut them short after seconds."""
    run = config.pluginmanager.getplugin("dsession")
    manager = getattr(run, "nodemanager", None)
    for gateway in [] if manager is None else manager.group:
        with contextlib.suppress(Exception):  # It has failed, or takes too long: that is said.
            gateway.node.channel.waitclose(SERVERS_STOP_WITHIN_S)
