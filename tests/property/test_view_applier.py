"""What is put into Redis, whatever happens on the way: the last row of each key, exactly once.

Against a real Redis. Two appliers take turns on one generation, each with its own idea of where it
is; batches are repeated, come late or are cut anew; Redis is wiped. At any time what Redis holds is
what a copy made in one go from the same rows would hold.
"""

import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given, settings, strategies as st

from processor.inventory import rows as row
from processor.inventory.identity import canonical, location_hash, reservation_hash
from processor.view.applier import Applier, Superseded
from processor.view.keys import Names, Position
from processor.view.plan import Batch
from tests.support.view import content

pytestmark = pytest.mark.kafka

PARTITIONS = (0, 1)
DATABASE = "/11"  # Of its own: looking through what other tests left would take minutes.
Row = tuple[bytes, bytes | None]


def hold_row(number: int, form: int | None) -> Row:
    """A hold under one of two reservation ids, in one of several forms; None: it goes."""
    place = row.Place("usmf", f"P{number % 2}", {"siteid": "1", "locationid": "11"}, "iv.soft")
    spelled = canonical(place.dimensions)
    reservation = reservation_hash("usmf", place.product_id, spelled, place.measure)
    key = row.hold_key(reservation, number)
    if form is None:
        return key, None
    hold = row.Hold(
        row.FORMAT,
        form % 2,
        row.raw(row.encode_place(place)),
        form + 1,
        1_000 + number // 3,
        0 if form == 0 else 5_000 + form,
        7,
        channel=("", "web")[form % 2],
        order_id=("", "SO-1", "SO-2")[form % 3],
    )
    return key, row.encode_hold(hold, bytes(12), row.due_of(hold, 0))


def level_row(number: int, reserved: int | None) -> Row:
    """A level's total; None: nothing is reserved any more."""
    dimensions = {"siteid": "1", "locationid": "11", "colorid": str(number)}
    location = location_hash("usmf", "P0", ("1", "11"))
    key = row.level_key(location, canonical(dimensions), "iv.soft")
    if reserved is None:
        return key, None
    place = row.encode_place(row.Place("usmf", "P0", dimensions, "iv.soft"))
    head = row.level_head(place)
    return key, head + row._encode(reserved)


def leaf_row(number: int, quantity: int) -> Row:
    """A stock leaf; it is never deleted."""
    dimensions = {"siteid": "1", "locationid": "11", "colorid": str(number)}
    location = location_hash("usmf", "P0", ("1", "11"))
    leaf = row.Leaf(row.FORMAT, "usmf", "P0", dimensions, {"fno.physicalinvent": quantity}, {})
    return row.leaf_key(location, dimensions), row.encode_row(leaf)


def failure_row(number: int, at_ms: int | None) -> Row:
    """A failed offset; None: it was retried or dismissed."""
    key = row.failure_key(f"F{number}")
    if at_ms is None:
        return key, None
    told: tuple[Any, ...] = (
        f"T{number}",
        "P0",
        {},
        "PICKED",
        1,
        "",
        "",
        "",
        "",
        False,
        "e",
    )
    failure = msgspec.convert((row.FORMAT, f"F{number}", 85, "usmf", *told, at_ms), row.Failure)
    return key, row.encode_row(failure)


def watermark_row(offset: int) -> Row:
    """The engine's row behind each of its batches."""
    return b"W", row._encode((1, {"reservation-requests": offset}, b""))


numbers = st.integers(0, 2)  # Few keys, so that rows meet.
rows_of_a_log = st.lists(
    st.one_of(
        st.builds(hold_row, numbers, st.one_of(st.none(), st.integers(0, 5))),
        st.builds(level_row, numbers, st.one_of(st.none(), st.integers(0, 3))),
        st.builds(leaf_row, numbers, st.integers(-3, 3)),
        st.builds(failure_row, numbers, st.one_of(st.none(), st.integers(1, 3))),
        st.builds(watermark_row, st.integers(0, 99)),
    ),
    min_size=5,
    max_size=40,
)
# Which applier goes, on which partition, how many rows it takes, and whether it looks first.
steps = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from(PARTITIONS),
        st.integers(1, 9),
        st.booleans(),
        st.integers(0, 30).map(lambda chance: chance == 0),
    ),
    min_size=5,
    max_size=40,
)


class Copy:
    """One generation of a throw-away prefix, and the appliers that fill it."""

    def __init__(self, client: Any, logs: Sequence[Sequence[Row]]) -> None:
        self.client = client
        self.prefix = f"view-{uuid.uuid4().hex[:8]}"
        self.names = Names(self.prefix)
        self.logs = logs
        self.keys = self.names.generation(b"g")
        self.client.set(self.names.live, b"g")
        self.appliers = [
            Applier(client, self.names, self.keys, serving=True, answers_ms=10**15)
            for _ in range(2)
        ]
        self.beliefs = [dict.fromkeys(PARTITIONS, Position(0, 0, {})) for _ in self.appliers]

    def look(self, number: int) -> None:
        """An applier reads where things stand."""
        self.beliefs[number] = self.appliers[number].positions(PARTITIONS)

    def step(self, number: int, partition: int, count: int) -> bool:
        """An applier goes on from where it believes to be; whether it was let."""
        start = self.beliefs[number][partition]
        batch = Batch(partition, start)
        log = self.logs[partition]
        for offset in range(start.offset, min(start.offset + count, len(log))):
            batch.add(offset, 1_000 + offset, *log[offset])
        try:
            self.appliers[number].apply([batch])
        except Superseded:
            return False
        self.beliefs[number][partition] = batch.end()
        return True

    def wipe(self) -> None:
        """Redis loses everything of this deployment but serves the generation anew, from nothing.

        The worst case: the name is the same, so only the positions tell.
        """
        for key in self.client.scan_iter(match=f"{self.prefix}:*"):
            self.client.delete(key)
        self.client.set(self.names.live, b"g")

    def finish(self) -> dict[bytes, object]:
        """Apply what is left, and read everything out."""
        self.look(0)
        for partition in PARTITIONS:
            assert self.step(0, partition, len(self.logs[partition]))
        found = content(self.client, self.prefix, b"g")
        self.wipe()
        self.client.delete(self.names.live)
        return found


def without_ever_seen(found: dict[bytes, object]) -> dict[bytes, object]:
    """Everything but the sets that never lose a member: one pass over the last rows sees less."""
    return {
        key: value
        for key, value in found.items()
        if key not in {b"pl", b"hw"} and key[:2] not in {b"w:", b"p:"}
    }


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(rows_of_a_log, rows_of_a_log), steps)
def test_an_old_row_never_replaces_a_newer_one(
    redis_url: str, logs: tuple[list[Row], list[Row]], steps: list[tuple[int, int, int, bool, bool]]
) -> None:
    """Repeats, stale appliers, cuts and wipes end in what one pass over the last rows gives."""
    # The partitions' own keys differ by the partition, as the product-location in them does.
    own = [logs[0], [(key[:1] + b"2" + key[2:], value) for key, value in logs[1] if key[0] == 72]]
    with redis.Redis.from_url(urlsplit(redis_url)._replace(path=DATABASE).geturl()) as client:
        copy = Copy(client, own)
        for number, partition, count, look, wiped in steps:
            if wiped:
                copy.wipe()
            if look:
                copy.look(number)
            before = copy.appliers[number].positions(PARTITIONS)[partition].offset
            believed = copy.beliefs[number][partition].offset
            assert copy.step(number, partition, count) == (before == believed)
        found = copy.finish()
        at_once = Copy(client, own).finish()
        assert without_ever_seen(found) == without_ever_seen(at_once)
        _check_against_last_rows(found, own)


def _check_against_last_rows(found: dict[bytes, Any], logs: Sequence[Sequence[Row]]) -> None:
    """The holds, failures and stock are the last row of each key; indexes name these alone."""
    last = {key: value for log in logs for key, value in log}
    holds = {key[1:]: value for key, value in last.items() if key[0] == 72 and value is not None}
    assert found.get(b"h", {}) == holds
    failures = {key[1:]: value for key, value in last.items() if key[0] == 70 and value is not None}
    assert found.get(b"f", {}) == failures
    stock = {key[1:]: value for key, value in last.items() if key[0] == 80 and value is not None}
    assert found.get(b"s:usmf\x1fP0\x1f1\x1f11", {}) == stock
    assert len(found.get(b"fi", [])) == len(failures)
    for end, members in found.items():
        if end[:1] == b"h" and end not in {b"h", b"hw", b"health"}:
            assert {member[-20:] for member in members} <= holds.keys()
    at_warehouse = found.get(b"hl:usmf\x1f1\x1f11", [])
    assert {member[-20:] for member in at_warehouse} == holds.keys()
    if holds:
        assert found[b"hw"] == [b"usmf\x1f1\x1f11"]
    if stock:
        assert {key[:12] for key in stock} <= found[b"pl"].keys()
        assert found[b"p:usmf\x1fP0"] == {b"1\x1f11"}
        assert found[b"w:usmf\x1f1\x1f11"] == {b"P0"}
