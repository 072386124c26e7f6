"""From the original's bodies to the records of the topics; pure but for the names in force."""

import functools
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from producers.gateway import fields
from producers.gateway.api.answers import RESERVE_PREFIX, UNRESERVE_PREFIX
from producers.gateway.api.usual import UsualReservation
from producers.gateway.places import API_SENDER, Places
from producers.gateway.problems import Problem, bad
from producers.gateway.writer import Sending
from schemas import limits
from schemas.codes import Code
from schemas.messages import (
    InventoryTransaction,
    LineDetail,
    MeasureChange,
    RequestLine,
    ReservationRequest,
)

# The prefix is part of the id on the topic, so that a reservation and its reversal may share one.
EVENT_ID_LENGTH_MAX: Final = limits.REQUEST_ID_LENGTH_MAX - len(RESERVE_PREFIX)
NAME_LENGTH_MAX: Final = 65
MEASURES_REMEMBERED: Final = 1_024
SPOTS_REMEMBERED: Final = 16_384
SPOT_TEXT_MAX: Final = 1_024  # Characters of what is remembered of one.


class Wrong(NamedTuple):
    """A record that must not be sent: refused for a reason that the configuration gives."""

    event_id: str
    status: int
    code: Code
    message: str


class Reserving(msgspec.Struct, frozen=True, gc=False):
    """A reservation ready to send."""

    event_id: str
    sending: Sending
    negative: bool


class Unreserving(NamedTuple):
    """An unreserve ready to send."""

    event_id: str
    sending: Sending
    reservation_id: str
    asked: int


class Changing(NamedTuple):
    """An on-hand change ready to send."""

    event_id: str
    sending: Sending


class _Subject(NamedTuple):
    """What every record names."""

    event_id: str
    organization_id: str
    product_id: str
    data_source: str
    dimensions: dict[str, str]


def _subject(value: Any) -> tuple[dict[str, Any], _Subject]:
    if not isinstance(value, dict):
        raise bad("a record: an object is expected")
    usual = _usual(value)
    if usual is not None:
        return value, usual
    dimensions = fields.dimensions(value)
    return value, _Subject(
        fields.text(value, "id", EVENT_ID_LENGTH_MAX),
        fields.text(value, "organizationId", limits.ORGANIZATION_LENGTH_MAX),
        fields.text(value, "productId", limits.PRODUCT_LENGTH_MAX),
        fields.text(value, "dimensionDataSource", NAME_LENGTH_MAX, "").lower(),
        # In order of name: the same record again is the same bytes, however it was written down.
        dict(sorted(dimensions.items())),
    )


def _placed(value: Any) -> tuple[dict[str, Any], _Subject]:
    """As `_subject`, of a record that must say at which dimensions, be they none."""
    members, subject = _subject(value)
    if members.get("dimensions") is None:
        raise bad("dimensions is missing")
    return members, subject


def _usual(members: dict[str, Any]) -> _Subject | None:
    """The subject of a record that is as most are; None sends it through every check by name."""
    try:
        return _plain(
            members["id"],
            members["organizationid"],
            members["productid"],
            members.get("dimensiondatasource", ""),
            members["dimensions"],
        )
    except (KeyError, TypeError, AttributeError):
        return None


def _plain(
    event_id: str, organization: str, product: str, source: str, named: Mapping[str, str]
) -> _Subject | None:
    """The subject of these texts, if none of them breaks a rule.

    A bulk has 512 of them: joined, their texts are checked at once, for a third of the time.

    Raises:
        TypeError, AttributeError: something is no text.

    """
    names, values = "".join(named), "".join(named.values())
    joined = event_id + organization + product + source + names + values
    plain = (
        joined.isprintable()
        and 0 < len(event_id) <= EVENT_ID_LENGTH_MAX
        and 0 < len(organization) <= limits.ORGANIZATION_LENGTH_MAX
        and 0 < len(product) <= limits.PRODUCT_LENGTH_MAX
        and len(source) <= NAME_LENGTH_MAX
        and len(values) <= limits.DIMENSION_VALUE_LENGTH_MAX
        and len(named) <= limits.DIMENSIONS_MAX
    )
    if not plain:
        return None
    dimensions = dict(sorted(named.items()))
    return _Subject(event_id, organization, product, source.lower(), dimensions)


class _NotUsual(Exception):
    """Something is to be looked at in the strict way; an exception, so that it is not cached."""


class _Spot(NamedTuple):
    """What all reservations of one measure of one product at one place share."""

    data_source: str
    dimensions: dict[str, str]
    measure: str
    key: bytes
    wrong: tuple[Code, str] | None


def usual_reserving(
    one: UsualReservation, places: Places, channel: str
) -> Reserving | Wrong | None:
    """A usual reservation, read; None if it is not so usual after all."""
    event_id, organization, product = one.id, one.organization_id, one.product_id
    if not (0 < len(event_id) <= EVENT_ID_LENGTH_MAX and event_id.isprintable()):
        return None
    try:
        spot = _usual_spot(
            places,
            (
                organization,
                product,
                one.dimension_data_source or "",
                one.quantity_data_source,
                one.modifier,
            ),
            tuple(one.dimensions.items()),
        )
    except _NotUsual:
        return None
    if spot.wrong is not None:
        return Wrong(event_id, 400, *spot.wrong)
    check = one.if_check_avail_for_reserv is not False
    quantity = int(one.quantity) * limits.QUANTITY_SCALE
    line = RequestLine(product, spot.data_source, spot.dimensions, spot.measure, quantity, check)
    request_id = RESERVE_PREFIX + event_id
    record = ReservationRequest(request_id, "RESERVE", organization, channel, [line])
    return Reserving(event_id, Sending(record, spot.key), quantity < 0)


@functools.lru_cache(SPOTS_REMEMBERED)
def _usual_spot(
    places: Places, texts: tuple[str, str, str, str, str], named: tuple[tuple[str, str], ...]
) -> _Spot:
    """Read and check them once: there are fewer of them than of reservations.

    Raises:
        _NotUsual: something breaks a rule, or is too long to be remembered.

    """
    organization, product, source, quantity_source, modifier = texts
    size = sum(map(len, texts)) + sum(len(name) + len(value) for name, value in named)
    if size > SPOT_TEXT_MAX or not (quantity_source and modifier):
        raise _NotUsual
    lower = {name.lower(): value for name, value in named}
    subject = _plain("-", organization, product, source, lower)
    if subject is None or len(lower) != len(named):
        raise _NotUsual
    try:
        measure = _measure(quantity_source, modifier)
    except Problem as problem:
        raise _NotUsual from problem
    wrong = _wrong(subject, measure, places)
    return _Spot(subject.data_source, subject.dimensions, measure, _key(subject, places), wrong)


def reserving(value: Any, places: Places, channel: str) -> Reserving | Wrong:
    """Read one reservation.

    Raises:
        Problem: 400, it is not one.

    """
    members, subject = _placed(value)
    measure, quantity = _measure_and_quantity(members)
    check = fields.flag(members, "ifCheckAvailForReserv", default=True)
    return _reserving(subject, measure, quantity, places, channel, check=check)


def _reserving(
    subject: _Subject, measure: str, quantity: int, places: Places, channel: str, *, check: bool
) -> Reserving | Wrong:
    """A reservation whose members have been read."""
    wrong = _wrong(subject, measure, places)
    if wrong is not None:
        return Wrong(subject.event_id, 400, *wrong)
    line = RequestLine(
        subject.product_id, subject.data_source, subject.dimensions, measure, quantity, check
    )
    record = _request("RESERVE", RESERVE_PREFIX + subject.event_id, channel, subject, line)
    return Reserving(subject.event_id, Sending(record, _key(subject, places)), quantity < 0)


def _wrong(subject: _Subject, measure: str, places: Places) -> tuple[Code, str] | None:
    """Why the configuration forbids a reservation there."""
    if measure.partition(".")[0] in places.protected:
        return Code.DATA_SOURCE_PROTECTED, f"{measure.partition('.')[0]} belongs to the ERP"
    extra = places.unconfigured(subject.dimensions, subject.data_source)
    if extra:
        return Code.LEVEL_NOT_RESERVABLE, f"{extra} is not a reservation dimension"
    return None


def _measure_and_quantity(members: Mapping[str, Any]) -> tuple[str, int]:
    """`quantityDataSource`, `modifier` and `quantity`, or the nested form `quantities`."""
    nested = members.get("quantities")
    if nested is not None and "quantity" not in members:
        changes = _measures(nested)
        if len(changes) != 1:
            raise bad("quantities: a reservation names one measure")
        return changes[0].measure, changes[0].quantity
    source, modifier = members.get("quantitydatasource"), members.get("modifier")
    if not isinstance(source, str) or not isinstance(modifier, str):
        source = fields.text(members, "quantityDataSource", NAME_LENGTH_MAX)
        modifier = fields.text(members, "modifier", NAME_LENGTH_MAX)
    return _measure(source, modifier), fields.unscaled(members.get("quantity"), "quantity")


@functools.lru_cache(MEASURES_REMEMBERED)
def _measure(source: str, modifier: str) -> str:
    """Name of a measure, checked; there are few of them, in many records."""
    fields.checked_text(source, "quantityDataSource", NAME_LENGTH_MAX)
    fields.checked_text(modifier, "modifier", NAME_LENGTH_MAX)
    return f"{source}.{modifier}".lower()


def unreserving(value: Any, places: Places, channel: str) -> Unreserving:
    """Read one unreserve.

    Raises:
        Problem: 400, it is not one.

    """
    members, subject = _placed(value)
    reservation_id = fields.text(members, "reservationId", limits.TEXT_LENGTH_MAX)
    asked = fields.unscaled(members.get("offsetqty"), "OffsetQty")
    if asked <= 0:
        raise bad("OffsetQty: a positive number is expected")
    line = RequestLine(
        subject.product_id,
        subject.data_source,
        subject.dimensions,
        "",
        asked,
        True,
        LineDetail(reservation_id=reservation_id),
    )
    record = _request("UNRESERVE", UNRESERVE_PREFIX + subject.event_id, channel, subject, line)
    sending = Sending(record, _key(subject, places))
    return Unreserving(subject.event_id, sending, reservation_id, asked)


def _request(
    action: str, request_id: str, channel: str, subject: _Subject, line: RequestLine
) -> ReservationRequest:
    return ReservationRequest(request_id, action, subject.organization_id, channel, [line])


def _key(subject: _Subject, places: Places) -> bytes:
    return places.key(
        subject.organization_id, subject.product_id, subject.dimensions, subject.data_source
    )


def changing(value: Any, places: Places) -> Changing | Wrong:
    """Read one on-hand change.

    Raises:
        Problem: 400, it is not one.

    """
    members, subject = _subject(value)
    changes = _measures(members.get("quantities"))
    return _change(subject, changes, places, mode="ADD", modified_at_ms=None)


def counting(value: Any, places: Places, source: str) -> Changing | Wrong:
    """Read one count of a data source: it replaces the measures that it names.

    Without `modifiedDateTimeUTC` the count is of the moment at which the broker gets it.

    Raises:
        Problem: 400, it is not one.

    """
    members, subject = _subject(value)
    quantities = members.get("quantities")
    nested = isinstance(quantities, dict) and any(isinstance(v, dict) for v in quantities.values())
    changes = _measures(quantities if nested else {source: quantities})
    other = next((c.measure for c in changes if c.measure.partition(".")[0] != source), None)
    if other is not None:
        raise bad(f"quantities: {other} is not of the data source {source}")
    modified_at_ms = fields.time_ms(members, "modifiedDateTimeUTC")
    return _change(subject, changes, places, mode="SET", modified_at_ms=modified_at_ms)


def _change(
    subject: _Subject,
    changes: list[MeasureChange],
    places: Places,
    *,
    mode: str,
    modified_at_ms: int | None,
) -> Changing | Wrong:
    protected = next((c for c in changes if c.measure.partition(".")[0] in places.protected), None)
    if protected is not None:
        words = f"{protected.measure} belongs to the ERP"
        return Wrong(subject.event_id, 400, Code.DATA_SOURCE_PROTECTED, words)
    record = InventoryTransaction(
        event_id=subject.event_id,
        organization_id=subject.organization_id,
        product_id=subject.product_id,
        dimension_data_source=subject.data_source,
        dimensions=subject.dimensions,
        source=API_SENDER,
        mode=mode,
        modified_at_ms=modified_at_ms,
        changes=changes,
    )
    return Changing(subject.event_id, Sending(record, _key(subject, places)))


def _measures(value: Any) -> list[MeasureChange]:
    """`{source: {measure: quantity}}`."""
    if not isinstance(value, dict) or not value:
        raise bad("quantities: data sources with measures and numbers are expected")
    found: list[MeasureChange] = []
    for source, measures in value.items():
        fields.checked_text(source, "quantities: a data source", NAME_LENGTH_MAX)
        if not isinstance(measures, dict) or not measures:
            raise bad(f"quantities.{source}: measures with numbers are expected")
        for measure, quantity in measures.items():
            fields.checked_text(measure, f"quantities.{source}: a measure", NAME_LENGTH_MAX)
            name = f"{source}.{measure}"
            found.append(MeasureChange(name, fields.unscaled(quantity, f"quantities.{name}")))
    if len(found) > limits.CHANGES_MAX:
        raise bad(f"quantities: {len(found)} measures exceed {limits.CHANGES_MAX}")
    return found
