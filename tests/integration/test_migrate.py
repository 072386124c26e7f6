"""`holdfast migrate` on a real stack: another rule, another count, the same stock and holds."""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from confluent_kafka import Consumer, Producer, TopicCollection
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)
from rich.console import Console
from typer.testing import CliRunner

from compose.stack import LocalStack
from holdfast import changelog, migration
from holdfast.changelog import committed_rows
from holdfast.cli import app
from holdfast.commands.topics import ensure_topics
from holdfast.migration import Migration
from holdfast.service_process import worker_process
from processor.engine.cycle import WATERMARK_KEY, Watermark
from processor.inventory.configuration import PartitionRule, default, dump
from processor.inventory.rekey import checkpoint_of
from processor.inventory.rows import KIND_LEAF, decode_leaf
from producers.channel import ChannelClient, Item
from producers.settings import Settings
from schemas import cluster, topics
from schemas.codes import Code
from schemas.messages import InventoryEvent, ReservationResult
from tests.support.eventually import eventually

pytestmark = pytest.mark.kafka

PRODUCTS = [f"P{number}" for number in range(12)]
UNIT = 1_000_000
BY_PRODUCT = PartitionRule(rule="by-product")
BUCKETS = PartitionRule(rule="by-location-and-product", buckets=8)


class Site:
    """Servers, topics with two partitions, and workers one after the other."""

    def __init__(self, stack: LocalStack, directory: Path) -> None:
        bootstrap, registry = stack.addresses.kafka_bootstrap, stack.addresses.registry_url
        assert bootstrap is not None
        assert registry is not None
        self.directory = directory
        self.settings = Settings(
            bootstrap_servers=bootstrap,
            registry_url=registry,
            schema_cache=str(directory / "schemas.json"),
        )
        self.admin = AdminClient({"bootstrap.servers": bootstrap})
        ensure_topics(stack.addresses, 2, Console(quiet=True))

    def worker(self) -> Any:
        """A worker on the same disk as the one before."""
        return worker_process(
            bootstrap=self.settings.bootstrap_servers,
            registry_url=self.settings.registry_url,
            data_dir=self.directory / "worker",
        )

    def run(self, *words: str) -> Any:
        """Run a command in this process."""
        environment = {
            "KAFKA_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "SCHEMA_REGISTRY_URL": self.settings.registry_url,
            "HOLDFAST_SCHEMA_CACHE": self.settings.schema_cache,
            "HOLDFAST_HOME": str(self.directory),
        }
        return CliRunner().invoke(app, list(words), env=environment)

    def document(self, rule: PartitionRule = BY_PRODUCT) -> str:
        """Name of a file with a later version under this rule."""
        path = self.directory / "next.yaml"
        path.write_text(dump(msgspec.structs.replace(default(), version=7, partition=rule)))
        return str(path)

    @contextlib.contextmanager
    def member(self) -> Iterator[Callable[..., None]]:
        """What joins the workers' group when it is called, and leaves it in the end."""
        configuration = {"bootstrap.servers": self.settings.bootstrap_servers}
        member = Consumer({**configuration, "group.id": topics.APP_ID})

        def join(*_: object, **__: object) -> None:
            member.subscribe([topics.CONFIGURATION])
            eventually(lambda: member.poll(0.05) or member.assignment())

        try:
            yield join
        finally:
            member.close()

    def set_cleanup(self, topic: str, policy: str) -> None:
        """As an operator would, by mistake."""
        entry = ConfigEntry("cleanup.policy", policy, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result()

    def incarnation(self, topic: str) -> str:
        """Another one once the topic was made anew."""
        described = self.admin.describe_topics(TopicCollection([topic]))[topic]
        return str(described.result().topic_id)

    def partitions(self, topic: str) -> int:
        """How many the topic has; 0 where there is none."""
        found = self.admin.list_topics(timeout=30).topics.get(topic)
        return 0 if found is None else len(found.partitions)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Servers of its own: the topics are replaced."""
    with LocalStack(tmp_path / "stack", servers=("kafka", "registry")) as stack:
        yield Site(stack, tmp_path)
    shutil.rmtree(tmp_path / "worker", ignore_errors=True)


def item(product: str, warehouse: str = "11") -> Item:
    """The product at a warehouse."""
    return Item("usmf", product, {"siteid": "1", "locationid": warehouse, "colorid": "red"})


def granted(answer: Any) -> ReservationResult:
    """The answer, which is a yes."""
    assert isinstance(answer, ReservationResult)
    assert answer.code == Code.ACCEPTED, answer
    return answer


def available(client: ChannelClient, product: str, warehouse: str = "11") -> int:
    """What could be held."""
    answer = client.availability(item(product, warehouse))
    assert isinstance(answer, ReservationResult)
    return answer.lines[0].available // UNIT


def fill(client: ChannelClient) -> dict[str, str]:
    """Stock and holds of many products at two warehouses; product to the hold at the first."""
    holds: dict[str, str] = {}
    for number, product in enumerate(PRODUCTS):
        for warehouse in ("11", "12"):
            event = client.on_hand(
                item(product, warehouse), {"fno.physicalinvent": 10 + number}, source="fno"
            )
            assert isinstance(event, InventoryEvent)
            held = granted(
                client.reserve(
                    item(product, warehouse), 3, request_id=f"{product}-{warehouse}", order_id="SO"
                )
            )
            holds.setdefault(product, held.lines[0].hold_id)
    return holds


def test_another_rule_and_count_with_the_same_stock(site: Site) -> None:
    """By product over three partitions: totals, decisions, ids and hold ids are as before.

    Two stores that count their requests have the same ids, and each its own answers.
    """
    with site.worker() as worker:
        worker.wait_until_ready()
        with ChannelClient(site.settings, "shop") as client:
            holds = fill(client)
            assert not any(answer.replayed for answer in of_two_stores(client))
        running = site.run("migrate", site.document(), "--partitions", "3", "--yes")
        assert running.exit_code == 2
        assert "worker(s) are running" in running.output
    tried = site.run("migrate", site.document(), "--partitions", "3", "--dry-run", "--json")
    assert tried.exit_code == 0, tried.output
    assert site.partitions(topics.REQUESTS) == 2
    moved = site.run("migrate", site.document(), "--partitions", "3", "--yes", "--json")
    assert moved.exit_code == 0, moved.output
    told = json.loads(moved.stdout.strip().splitlines()[-1])
    assert (told["holds"], told["partitions"], told["switched"]) == (24, 3, True)
    assert {site.partitions(topics.REQUESTS), site.partitions(topics.CHANGELOG)} == {3}
    assert site.partitions(topics.STAGING) == 0
    with site.worker() as worker, ChannelClient(site.settings, "shop") as client:
        worker.wait_until_ready()
        for number, product in enumerate(PRODUCTS):
            assert available(client, product) == available(client, product, "12") == 7 + number
            again = client.reserve(item(product), 3, request_id=f"{product}-11", order_id="SO")
            assert isinstance(again, ReservationResult)
            assert again.replayed
            assert again.lines[0].hold_id == holds[product]
        assert all(answer.replayed for answer in of_two_stores(client))
        refused = client.reserve(item("P0"), 8)
        assert isinstance(refused, ReservationResult)
        assert (refused.code, refused.lines[0].available) == (
            Code.INSUFFICIENT_STOCK,
            7 * UNIT,
        )
        granted(client.release(item("P0"), holds["P0"]))
        assert granted(client.reserve(item("P0"), 8)).lines[0].available == 2 * UNIT
    audited = site.run("audit", "--json")
    assert audited.exit_code == 0, audited.output


def of_two_stores(client: ChannelClient) -> list[ReservationResult]:
    """Requests with the same id about warehouses of different partitions, both refused."""
    asked = [
        client.reserve(item(product, warehouse), 1_000, request_id="1")
        for product, warehouse in (("P0", "11"), ("P1", "12"))
    ]
    answers = [answer for answer in asked if isinstance(answer, ReservationResult)]
    assert [answer.code for answer in answers] == [Code.INSUFFICIENT_STOCK] * 2
    return answers


def refuses_while_one_waits(site: Site, request_id: str, *, partitions: int) -> None:
    """A request that no worker decides is sent; migrate says that it waits, and does nothing."""
    hasty = msgspec.structs.replace(site.settings, timeout_ms=200)
    with ChannelClient(hasty, "shop") as client:
        client.reserve(item("P0"), 1, request_id=request_id)
    waits = site.run("migrate", "--partitions", str(partitions), "--yes")
    assert waits.exit_code == 2
    assert "1 record(s) wait to be decided" in waits.output


def test_before_the_first_worker_and_then_by_location_and_product(site: Site) -> None:
    """Empty topics are replaced, undecided records refuse it; a warehouse is spread by product."""
    empty = site.run("migrate", "--partitions", "3", "--yes", "--json")
    assert empty.exit_code == 0, empty.output
    told = json.loads(empty.stdout.strip().splitlines()[-1])
    assert (told["holds"], told["partitions"], told["switched"]) == (0, 3, True)
    assert site.partitions(topics.REQUESTS) == 3
    refuses_while_one_waits(site, "before the first worker", partitions=2)
    with site.worker() as worker, ChannelClient(site.settings, "shop") as client:
        worker.wait_until_ready()
        # Requests and stock come by two topics: the one that waited is decided before there is any.
        # The answer is its own, or the repetition of that.
        late = client.reserve(item("P0"), 1, request_id="before the first worker")
        assert isinstance(late, ReservationResult)
        assert late.code == Code.INSUFFICIENT_STOCK
        holds = fill(client)
    moved = site.run("migrate", site.document(BUCKETS), "--partitions", "4", "--yes", "--json")
    assert moved.exit_code == 0, moved.output
    told = json.loads(moved.stdout.strip().splitlines()[-1])
    assert (told["holds"], told["partitions"]) == (24, 4)
    of = location_partitions(site)
    assert len({of[product, "11"] for product in PRODUCTS}) > 1, "one warehouse is not spread"
    with site.worker() as worker, ChannelClient(site.settings, "shop") as client:
        worker.wait_until_ready()
        for number, product in enumerate(PRODUCTS):
            assert available(client, product) == available(client, product, "12") == 7 + number
            again = client.reserve(item(product), 3, request_id=f"{product}-11", order_id="SO")
            assert isinstance(again, ReservationResult)
            assert (again.replayed, again.lines[0].hold_id) == (True, holds[product])
        granted(client.release(item("P0"), holds["P0"]))
        event = client.on_hand(item("P0"), {"fno.physicalinvent": 1}, source="fno")
        assert isinstance(event, InventoryEvent)
        assert granted(client.reserve(item("P0"), 11)).lines[0].available == 0
    audited = site.run("audit", "--json")
    assert audited.exit_code == 0, audited.output


def location_partitions(site: Site) -> dict[tuple[str, str], int]:
    """Product and warehouse to the partition whose changelog has the stock row."""
    found: dict[tuple[str, str], int] = {}
    for number, rows in committed_rows(site.settings, lambda key: key[:1] == b"P"):
        leaves = [decode_leaf(value) for key, value in rows.items() if key[13] == KIND_LEAF]
        for leaf in leaves:
            found[leaf.product_id, leaf.dimensions["locationid"]] = number
    return found


class CrashError(Exception):
    """Stands for a kill."""


def crash(*_: object) -> None:
    """Die here."""
    raise CrashError


def dies_in_commit(site: Site, monkeypatch: pytest.MonkeyPatch, *, number: int) -> None:
    """Migrate dies before its first or second commit: staged rows, changelog; both stay open."""
    commits = []

    class Dying(Producer):
        def commit_transaction(self, timeout: float) -> None:
            commits.append(timeout)
            if len(commits) == number:
                self.flush()
                crash()
            super().commit_transaction(timeout)

    with monkeypatch.context() as broken:
        # The clean-up of a run that fails is none of one that is killed.
        broken.setattr(Migration, "taken_back_if_it_fails", contextlib.nullcontext)
        broken.setattr(migration, "Producer", Dying)
        died = site.run("migrate", "--partitions", "4", "--yes")
    assert isinstance(died.exception, CrashError), died.output


def begin_as_a_worker_would(site: Site) -> None:
    """In new topics that nothing was put in yet: each partition has a watermark within a second."""
    producer = Producer({"bootstrap.servers": site.settings.bootstrap_servers})
    mark = Watermark(1, dict.fromkeys(topics.SOURCES, 0), checkpoint_of([]), {}, 4)
    for number in range(4):
        producer.produce(
            topics.CHANGELOG,
            key=WATERMARK_KEY,
            value=msgspec.msgpack.encode(mark),
            partition=number,
        )
    assert producer.flush(30) == 0


def test_what_is_not_so_any_more_when_the_answer_comes_stops_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record, a worker, a topic that stays and differs: nothing was deleted, nothing is left."""

    def send(*_: object, **__: object) -> None:
        with ChannelClient(msgspec.structs.replace(site.settings, timeout_ms=200), "shop") as shop:
            shop.reserve(item("P0"), 1)

    def stopped_when(answering: Callable[..., None] = lambda *_, **__: None) -> str:
        with monkeypatch.context() as at_the_question:
            at_the_question.setattr(typer, "confirm", answering)
            stopped = site.run("migrate", "--partitions", "4")
        assert stopped.exit_code == 2, stopped.output
        assert (site.partitions(topics.REQUESTS), site.partitions(topics.STAGING)) == (2, 0)
        return str(stopped.output)

    with site.member() as join:
        assert "A worker was started meanwhile" in stopped_when(join)
    assert "Records were sent meanwhile" in stopped_when(send)
    site.set_cleanup(topics.DEAD_LETTERS, "compact")
    assert f"{topics.DEAD_LETTERS}: cleanup.policy is compact" in stopped_when()


def test_topics_that_are_not_made_are_said_and_what_has_the_state(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that refuses them: all is staged, a worker that came is seen, and it goes on.

    Afterwards there is no group, whose positions were those of the old topics.
    """
    with site.worker() as worker:
        worker.wait_until_ready()
        with ChannelClient(site.settings, "shop") as client:
            fill(client)
    create = cluster.create

    def refuse(admin: AdminClient, *counts: int, **words: Any) -> list[str]:
        if "topics" not in words:
            raise cluster.ClusterError("reservation-requests was not created: a policy")
        return create(admin, *counts, **words)

    with monkeypatch.context() as broken:
        broken.setattr(cluster, "create", refuse)
        stopped = site.run("migrate", "--partitions", "4", "--yes")
    assert stopped.exit_code == 2, stopped.output
    assert "a policy" in stopped.output
    assert f"All of the state is in the topic {topics.STAGING}" in stopped.output
    with site.member() as join, monkeypatch.context() as at_the_question:
        at_the_question.setattr(typer, "confirm", join)
        seen = site.run("migrate", "--partitions", "4")
    assert (seen.exit_code, "A worker was started" in seen.output) == (2, True), seen.output
    assert site.partitions(topics.STAGING) == 4
    done = site.run("migrate", "--partitions", "4", "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.strip().splitlines()[-1])["holds"] == 24
    groups = site.admin.list_consumer_groups(request_timeout=30).result().valid
    assert topics.APP_ID not in {group.group_id for group in groups}


def test_what_waits_to_be_decided_stops_it_and_an_interrupted_run_goes_on(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Undecided records refuse it; killed anywhere, in a transaction too, it loses nothing."""
    # Those that it leaves open end after ten minutes: whoever waits for that is seen sooner.
    monkeypatch.setattr(changelog, "READ_WITHIN_S", 20.0)
    with site.worker() as worker:
        worker.wait_until_ready()
        with ChannelClient(site.settings, "shop") as client:
            holds = fill(client)
    refuses_while_one_waits(site, "nobody decided", partitions=4)
    with site.worker() as worker:
        worker.wait_until_ready()
        with ChannelClient(site.settings, "shop") as client:
            granted(client.reserve(item("P0"), 1, request_id="nobody decided"))

    dies_in_commit(site, monkeypatch, number=1)
    assert site.partitions(topics.STAGING) == 4
    no = site.run("migrate", "--partitions", "4")  # Nobody answers.
    assert no.exit_code == 1, no.output
    assert "Replace the topics now?" in no.output
    assert site.partitions(topics.STAGING) == 0, "workers may not start"
    assert site.partitions(topics.CHANGELOG) == 2
    dies_in_commit(site, monkeypatch, number=2)
    assert site.partitions(topics.CHANGELOG) == 4
    begin_as_a_worker_would(site)
    other = site.run("migrate", "--partitions", "5", "--yes")
    assert other.exit_code == 2
    assert "--partitions 4" in other.output
    with monkeypatch.context() as broken:
        broken.setattr(Migration, "_produce_configuration", crash)
        died = site.run("migrate", "--partitions", "4", "--yes")
        assert isinstance(died.exception, CrashError), died.output
    switched = site.incarnation(topics.CHANGELOG)
    done = site.run("migrate", "--partitions", "4", "--yes")
    assert done.exit_code == 0, done.output
    assert site.incarnation(topics.CHANGELOG) == switched, "made anew once more"
    with site.worker() as worker, ChannelClient(site.settings, "shop") as client:
        worker.wait_until_ready()
        assert available(client, "P0") == 6
        granted(client.release(item("P3"), holds["P3"]))
        assert available(client, "P3") == 13
