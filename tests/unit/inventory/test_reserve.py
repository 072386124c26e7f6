"""RESERVE, UNRESERVE and RELEASE: quantities, levels, refusals and their order."""

from typing import Any

import msgspec
import pytest

from processor.engine.faults import Fault
from processor.inventory.configuration import default, to_json
from schemas import topics
from schemas.codec import Codec
from schemas.codes import Code
from schemas.messages import InventoryTransaction, RequestOptions, ReservationRequest, Term
from schemas.registry import FixedSchemaIds, UnavailableSchemaError
from tests.support.partition import (
    CODEC,
    RED,
    RED_SMALL,
    UNIT,
    WAREHOUSE,
    Partition,
    line,
    pieces,
)
from tests.support.rows import DictRows


def test_the_worked_example() -> None:
    """The worked example of the contract, number for number."""
    partition = Partition()
    partition.stock(10)
    first = partition.reserve(1, request_id="A")
    assert (first.code, pieces(first.available)) == (Code.ACCEPTED, 9)
    second = partition.reserve(10)
    assert (second.code, pieces(second.available)) == (Code.INSUFFICIENT_STOCK, 9)
    again = partition.ask("RESERVE", [line(1)], request_id="A")
    assert again.replayed
    assert again.lines == [first]
    status = {"sequence": 1, "reservation_id": first.reservation_id}
    partition.status("RESERVED_PHYSICAL", 1, changes={"fno.reservphysical": 1}, **status)
    assert [event.event_type for event in partition.events] == ["TRANSACTION", "OFFSET_APPLIED"]
    assert partition.available() == 9
    taken = {"fno.physicalinvent": -1, "fno.reservphysical": -1}
    picked = partition.status("PICKED", 1, changes=taken, **(status | {"sequence": 2}))
    assert picked.code == Code.APPLIED
    assert partition.available() == 9


def test_a_hold_counts_at_every_level_above_it() -> None:
    """Ten pieces cannot be promised as red and again as red small."""
    partition = Partition()
    partition.stock(10)
    assert partition.reserve(10, dimensions=RED).code == Code.ACCEPTED
    assert partition.reserve(1, dimensions=RED_SMALL).code == Code.INSUFFICIENT_STOCK
    assert partition.reserve(1, dimensions=WAREHOUSE).code == Code.INSUFFICIENT_STOCK


def test_a_hold_above_is_charged_to_those_below() -> None:
    """Six of ten held for the warehouse leave four for red small, although its own row has ten."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(6, dimensions=WAREHOUSE)
    assert partition.available(RED_SMALL) == 4
    assert partition.reserve(4).code == Code.ACCEPTED


def test_independent_levels_check_their_own_stock_alone() -> None:
    """The compatible mode promises ten pieces at two levels, as the original does."""
    document = default()
    reservation = msgspec.structs.replace(document.reservation, cross_level="independent")
    partition = Partition(msgspec.structs.replace(document, reservation=reservation))
    partition.stock(10)
    assert partition.reserve(10, dimensions=RED).code == Code.ACCEPTED
    assert partition.reserve(10, dimensions=RED_SMALL).code == Code.ACCEPTED


def test_a_refusal_explains_itself() -> None:
    """A refusal names the level that bound, and terms that add up to what is available there."""
    partition = Partition()
    partition.stock(10)
    partition.tell({"pos.outbound": 2}, source="pos")
    partition.reserve(5, dimensions=WAREHOUSE)
    refused = partition.reserve(4)
    assert refused.detail is not None
    assert refused.detail.level == "siteid,locationid"
    assert refused.detail.terms == [
        Term("fno.physicalinvent", 10 * UNIT),
        Term("pos.outbound", -2 * UNIT),
        Term("iv.softreserved", -5 * UNIT),
    ]
    assert sum(term.quantity for term in refused.detail.terms) == refused.available == 3 * UNIT


def test_terms_follow_the_stock_without_reading_it_again() -> None:
    """However stock changes between two refusals: the terms add up, and no stock row is read."""
    partition = Partition()
    blue = RED_SMALL | {"colorid": "blue"}
    partition.stock(10)
    partition.stock(7, dimensions=blue)
    partition.reserve(99)
    partition.reserve(99, dimensions=WAREHOUSE)
    partition.stock(-4)
    partition.tell({"pos.inbound": 2}, source="pos", dimensions=blue)
    group = next(key[:13] for key in partition.rows.rows if key[:1] == b"P")
    scan, scanned = partition.rows.scan, list[bytes]()
    partition.rows.scan = lambda *of: scanned.append(of[0]) or scan(*of)  # type: ignore[method-assign, func-returns-value]
    for place, supply in ((RED_SMALL, 6), (WAREHOUSE, 15)):
        refused = partition.reserve(99, dimensions=place)
        assert refused.detail is not None
        assert sum(term.quantity for term in refused.detail.terms) == refused.available
        assert refused.available == supply * UNIT
    assert group not in scanned


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ({"quantity": 0}, Code.QUANTITY_INVALID),
        ({"quantity": -1}, Code.QUANTITY_INVALID),
        ({"quantity": 0, "check": False}, Code.QUANTITY_INVALID),
        ({"product": ""}, Code.PRODUCT_INVALID),
        ({"product": "x" * 129}, Code.PRODUCT_INVALID),
        ({"product": "a\nb"}, Code.PRODUCT_INVALID),
        ({"source": "nobody"}, Code.DATA_SOURCE_UNKNOWN),
        ({"dimensions": RED | {"flavour": "sweet"}}, Code.DIMENSION_UNKNOWN),
        ({"dimensions": RED | {"styleid": "y" * 65}}, Code.DIMENSION_VALUE_INVALID),
        ({"dimensions": RED | {"ColorId": "blue"}}, Code.DIMENSION_VALUE_INVALID),
        ({"dimensions": {"siteid": "1"}}, Code.PARTITION_DIMENSION_MISSING),
        ({"dimensions": WAREHOUSE | {"sizeid": "small"}}, Code.LEVEL_NOT_RESERVABLE),
        ({"measure": "iv.nothing"}, Code.MEASURE_UNKNOWN),
        ({"measure": "pos.inbound"}, Code.MEASURE_NOT_RESERVABLE),
        ({"measure": "fno.softreserved"}, Code.MEASURE_NOT_RESERVABLE),
        ({"minimum": 2}, Code.QUANTITY_INVALID),
        ({"expires_in_ms": 0}, Code.EXPIRY_INVALID),
        ({"expires_at_ms": 1_800_000_000_000}, Code.EXPIRY_INVALID),
        ({"order_id": "x" * 129}, Code.TEXT_INVALID),
        ({"channel": "x" * 65}, Code.TEXT_INVALID),
        # The first in the order of the codes is told.
        ({"product": "", "dimensions": {}, "quantity": 0}, Code.PRODUCT_INVALID),
        ({"measure": "iv.nothing", "quantity": 0}, Code.MEASURE_UNKNOWN),
    ],
)
def test_a_line_is_refused_before_stock_is_looked_at(words: dict[str, object], code: Code) -> None:
    """Each flaw has its code, and nothing is changed."""
    partition = Partition()
    partition.stock(10)
    answer = partition.reserve(words.pop("quantity", 1), **words)  # type: ignore[arg-type]
    assert answer.code == code
    assert partition.available() == 10


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"request_id": ""}, Code.REQUEST_ID_INVALID),
        ({"request_id": "x" * 129}, Code.REQUEST_ID_INVALID),
        ({"request_id": "a\0b"}, Code.REQUEST_ID_INVALID),
        ({"organization": "", "key": b"|1|11"}, Code.ORGANIZATION_INVALID),
        ({"lines": []}, Code.NO_LINES),
        ({"lines": [line(1)] * 513}, Code.TOO_MANY_LINES),
        (
            {"lines": [line(1), line(1, dimensions=WAREHOUSE | {"locationid": "12"})]},
            Code.SPANS_PARTITIONS,
        ),
    ],
)
def test_a_request_is_refused_as_a_whole(change: dict[str, object], code: Code) -> None:
    """Flaws of the request as a whole come before those of its lines."""
    partition = Partition()
    partition.stock(10)
    lines = change.pop("lines", [line(1)])
    assert partition.ask("RESERVE", lines, **change).code == code  # type: ignore[arg-type]
    assert partition.available() == 10


def test_the_feature_toggle_refuses_reservations_but_not_releases() -> None:
    """With OnHandReservation off nothing more is reserved; what was held before can be let go."""
    partition = Partition()
    partition.stock(10)
    hold = partition.reserve(4)
    reservation = msgspec.structs.replace(default().reservation, enabled=False)
    document = msgspec.structs.replace(default(), version=2, reservation=reservation)
    options = RequestOptions(configuration=to_json(document))
    assert partition.ask("CONFIGURE", [], options=options, key=None).code == Code.ACCEPTED
    assert partition.reserve(1).code == Code.RESERVATION_DISABLED
    released = partition.release(hold.hold_id, 3)
    assert (released.code, pieces(released.quantity)) == (Code.ACCEPTED, 3)


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        (None, "own", Code.KEY_MISSING),
        (b"usmf|1|12", "own", Code.KEY_MISMATCH),
        (b"usmf|1|11", None, Code.RECORD_EMPTY),
        (b"usmf|1|11", b"not a record", Code.RECORD_NOT_AVRO),
    ],
)
def test_a_misplaced_or_unreadable_record_is_a_dead_letter(
    key: bytes | None, value: bytes | str | None, code: Code
) -> None:
    """It goes to the dead letters with its bytes, answers nothing and takes a sequence number."""
    partition = Partition()
    if value == "own":
        value = CODEC.encode_request(
            ReservationRequest("A", "RESERVE", "usmf", "web-shop", [line(1)])
        )
    assert not isinstance(value, str)
    assert partition.send(topics.REQUESTS, key, value) == []
    assert [letter.code for letter in partition.dead_letters] == [code]
    assert (partition.dead_letters[0].key, partition.dead_letters[0].value) == (key, value)
    assert partition.ask("RESERVE", [line(1)]).sequence == 2


class SilentIds(FixedSchemaIds):
    """A registry that does not answer."""

    def schema_of(self, schema_id: int) -> Any:
        """Of nobody, for now."""
        raise UnavailableSchemaError(f"does not say what {schema_id} is")


def test_a_record_that_cannot_be_read_for_now_is_no_dead_letter() -> None:
    """Its schema may be a good one: the worker ends, and reads it again."""
    partition = Partition(codec=Codec(SilentIds()))
    with pytest.raises(Fault, match=r"reservation-requests/0, offset 0: schema 70: does not say"):
        partition.send(topics.REQUESTS, b"usmf|1|11", b"\x00\x00\x00\x00\x46abc")
    assert not partition.dead_letters


@pytest.mark.parametrize("topic", topics.SOURCES)
def test_a_record_in_another_partition_than_its_key_is_a_dead_letter(topic: str) -> None:
    """Of two partitions exactly one takes the key; the other applies nothing."""
    partition = Partition()
    request = ReservationRequest("A", "RESERVE", "usmf", "web-shop", [line(1, check=False)])
    told = InventoryTransaction(
        event_id="A", organization_id="usmf", product_id="D0002", dimensions=RED_SMALL, source="fno"
    )
    value = CODEC.encode_request(request)
    if topic == topics.TRANSACTIONS:
        value = CODEC.encode_transaction(told)
    codes = []
    for number in range(2):
        partition.rows = DictRows()
        partition.decider = partition.domain.open(number, 2, partition.rows, None)
        partition.send(topic, b"usmf|1|11", value)
        codes += [letter.code for letter in partition.dead_letters]
    assert codes == [Code.PARTITION_MISMATCH]


def test_the_same_id_gets_the_same_answer_also_a_refusal() -> None:
    """A repeat of a refused request stays refused, although there is stock now."""
    partition = Partition()
    refused = partition.ask("RESERVE", [line(1)], request_id="A")
    partition.stock(10)
    partition.restart()
    partition.now_ms += 1000
    again = partition.ask("RESERVE", [line(1)], request_id="A")
    assert again.replayed
    assert (again.code, again.lines, again.decided_at_ms) == (
        refused.code,
        refused.lines,
        refused.decided_at_ms,
    )


def test_the_order_of_dimensions_is_not_content() -> None:
    """A client that writes its map in another order repeats the same request."""
    partition = Partition()
    partition.stock(10)
    partition.ask("RESERVE", [line(1)], request_id="A")
    turned = dict(reversed(list(RED_SMALL.items())))
    assert partition.ask("RESERVE", [line(1, dimensions=turned)], request_id="A").replayed


@pytest.mark.parametrize(
    "other",
    [
        line(2),
        line(1, check=False),
        line(1, dimensions=RED),
        line(1, order_id="SO-1"),
        line(1, product="D0003"),
    ],
)
def test_the_same_id_with_other_content_is_refused(other: object) -> None:
    """An id that was answered is not answered again for something else."""
    partition = Partition()
    partition.stock(10)
    partition.ask("RESERVE", [line(1)], request_id="A")
    reused = partition.ask("RESERVE", [other], request_id="A")  # type: ignore[list-item]
    assert reused.code == Code.REQUEST_ID_REUSED
    assert partition.available() == 9


def test_an_id_is_forgotten_after_the_dedupe_window() -> None:
    """Exactly when the window ends the id is new again; a millisecond before it is not."""
    partition = Partition()
    partition.stock(10)
    window_ms = default().dedupe_window_ms
    partition.ask("RESERVE", [line(1)], request_id="A")
    partition.now_ms += window_ms - 1
    assert partition.ask("RESERVE", [line(1)], request_id="A").replayed
    partition.now_ms += 1
    assert not partition.ask("RESERVE", [line(1)], request_id="A").replayed
    assert partition.available() == 8


def test_rows_of_forgotten_ids_are_deleted() -> None:
    """The memory of ids does not grow for ever."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(1, request_id="A")
    partition.now_ms += default().dedupe_window_ms
    for _ in range(3):
        partition.tick()
    assert b"RA" not in partition.rows.rows


def test_unreserve_takes_what_is_there_and_tells_the_rest() -> None:
    """Ten reserved, twelve given back: ten are, two are invalid."""
    partition = Partition()
    partition.stock(10)
    held = partition.reserve(10)
    back = partition.line("UNRESERVE", 12, reservation_id=held.reservation_id)
    assert (back.code, pieces(back.quantity), pieces(back.available)) == (Code.PARTIAL, 10, 10)
    assert back.detail is not None
    assert pieces(back.detail.invalid_quantity) == 2
    nothing = partition.line("UNRESERVE", 1, reservation_id=held.reservation_id)
    assert nothing.code == Code.NOTHING_RESERVED


def test_unreserve_with_a_wrong_id_changes_nothing() -> None:
    """An id of other dimensions, or none at all, is refused with all of it invalid."""
    partition = Partition()
    partition.stock(10)
    held = partition.reserve(10)
    for words in ({"reservation_id": "nonsense"}, {"reservation_id": ""}):
        back = partition.line("UNRESERVE", 3, **words)
        assert back.code == Code.RESERVATION_UNKNOWN
    wrong = partition.line("UNRESERVE", 3, dimensions=RED, reservation_id=held.reservation_id)
    assert wrong.code == Code.RESERVATION_UNKNOWN
    assert wrong.detail is not None
    assert pieces(wrong.detail.invalid_quantity) == 3
    assert partition.available() == 0


def test_a_negative_quantity_gives_back_oldest_first_and_never_too_much() -> None:
    """Minus five against holds of two and two: both gone, one invalid, none below zero."""
    partition = Partition()
    partition.stock(10)
    old, new = partition.reserve(2), partition.reserve(2)
    part = partition.reserve(-3, check=False)
    assert (part.code, pieces(part.available)) == (Code.ACCEPTED, 9)
    assert partition.release(old.hold_id).code == Code.HOLD_CLOSED
    assert pieces(partition.release(new.hold_id).quantity) == 1
    partition.reserve(1)
    rest = partition.reserve(-5, check=False)
    assert (rest.code, pieces(rest.quantity), pieces(rest.available)) == (Code.PARTIAL, 1, 10)


def test_the_named_order_gives_back_before_older_holds() -> None:
    """By reservation id, holds of the named order are taken before older ones of others."""
    partition = Partition()
    partition.stock(10)
    other = partition.reserve(2, order_id="SO-1")
    own = partition.reserve(2, order_id="SO-2")
    words = {"reservation_id": own.reservation_id, "order_id": "SO-2"}
    partition.line("UNRESERVE", 3, **words)
    assert partition.release(own.hold_id).code == Code.HOLD_CLOSED
    assert pieces(partition.release(other.hold_id).quantity) == 1


def test_a_release_takes_from_its_hold_alone() -> None:
    """Releasing more than is left of a hold leaves its neighbour untouched."""
    partition = Partition()
    partition.stock(10)
    first, second = partition.reserve(2), partition.reserve(3)
    back = partition.release(second.hold_id, 7)
    assert (back.code, pieces(back.quantity)) == (Code.PARTIAL, 3)
    assert partition.release(second.hold_id).code == Code.HOLD_CLOSED
    assert pieces(partition.release(first.hold_id).quantity) == 2


@pytest.mark.parametrize("hold_id", ["", "nonsense", "0" * 24 + "-512", "{own}-99999999"])
def test_an_id_of_no_hold_is_unknown(hold_id: str) -> None:
    """Malformed, of another product, or from the future."""
    partition = Partition()
    partition.stock(10)
    own = partition.reserve(1).reservation_id
    answer = partition.release(hold_id.replace("{own}", own))
    assert answer.code == Code.HOLD_UNKNOWN


def test_an_unchecked_reservation_may_oversell() -> None:
    """Without the check, availability goes below zero, and a checked one is refused after it."""
    partition = Partition()
    partition.stock(10)
    assert pieces(partition.reserve(100, check=False).available) == -90
    assert partition.reserve(1).code == Code.INSUFFICIENT_STOCK


def test_part_is_granted_where_part_is_enough() -> None:
    """With a minimum, what is there is granted; below the minimum nothing is."""
    partition = Partition()
    partition.stock(4)
    part = partition.reserve(6, minimum=3)
    assert (part.code, pieces(part.quantity), pieces(part.available)) == (Code.PARTIAL, 4, 0)
    assert partition.reserve(6, minimum=1).code == Code.INSUFFICIENT_STOCK


def test_a_dry_run_answers_and_changes_nothing() -> None:
    """A dry run says what would be, is not remembered, and leaves every row as it was."""
    partition = Partition()
    partition.stock(10)
    before = dict(partition.rows.rows)
    dry = RequestOptions(dry_run=True)
    answer = partition.ask("RESERVE", [line(4), line(7)], request_id="A", options=dry)
    assert answer.code == Code.INSUFFICIENT_STOCK
    one = partition.ask("RESERVE", [line(4)], request_id="A", options=dry)
    assert (one.code, pieces(one.lines[0].available)) == (Code.ACCEPTED, 6)
    assert partition.rows.rows == before


def test_explain_explains_acceptances_too() -> None:
    """Asked for, the terms come with a yes."""
    partition = Partition()
    partition.stock(10)
    answer = partition.reserve(4, options=RequestOptions(explain=True))
    assert answer.detail is not None
    assert sum(term.quantity for term in answer.detail.terms) == answer.available == 6 * UNIT


def test_the_names_of_a_data_source_may_be_used() -> None:
    """The source's own names and the base names both lead to the same reservation."""
    partition = Partition()
    partition.stock(10)
    own = {"InventSiteId": "1", "inventlocationid": "11", "ColorId": "red", "InventSizeId": "small"}
    answer = partition.reserve(1, dimensions=own, source="FNO")
    assert answer.code == Code.ACCEPTED
    assert answer.reservation_id == partition.reserve(1).reservation_id


def test_dimensions_that_cannot_be_reserved_are_left_out() -> None:
    """A batch number does not make another reservation when unconfigured ones are filtered."""
    partition = Partition()
    partition.stock(10)
    with_batch = partition.reserve(1, dimensions=RED_SMALL | {"batchid": "B7"})
    assert with_batch.reservation_id == partition.reserve(1).reservation_id


def test_without_filtering_they_are_refused() -> None:
    """The strict setting refuses a dimension that is not configured."""
    document = default()
    reservation = msgspec.structs.replace(
        document.reservation, filter_unconfigured_dimensions=False
    )
    partition = Partition(msgspec.structs.replace(document, reservation=reservation))
    answer = partition.reserve(1, dimensions=RED_SMALL | {"batchid": "B7"})
    assert answer.code == Code.LEVEL_NOT_RESERVABLE


def test_made_up_dimension_values_do_not_fill_the_memory() -> None:
    """Refused requests for ever new colours are forgotten, and what is held is not."""
    partition = Partition()
    partition.stock(10)
    partition.reserve(4)
    for number in range(9_000):
        partition.reserve(1, dimensions=RED_SMALL | {"colorid": f"c{number}"})
    (location,) = partition.decider._state.locations.values()
    assert len(location.levels) < 5_000
    assert len(partition.decider._state.targets) < 5_000
    assert partition.available() == 6
