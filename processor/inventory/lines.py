"""From the words of a record to the level they name: names, values, measures, quantities.

The rule: the order of the checks is the order of the numbers in `schemas.codes`, and part of the
answer. What a line resolves to is remembered with its product-location, so that the next one like
it costs one look-up.
"""

import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
from mypy_extensions import mypyc_attr

from processor.inventory.rules import KNOWN_DIMENSIONS, Rules
from processor.inventory.state import PartitionState
from processor.inventory.stock import Level
from schemas import limits
from schemas.codes import Code
from schemas.messages import LineDetail, RequestLine, ReservationRequest

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_encode: Final = msgspec.msgpack.Encoder().encode
CONTENT_BYTES: Final = 16
LEVELS_CROWDED: Final = 4_096  # Past it a product-location is looked through for empty levels.


@mypyc_attr(acyclic=True)  # Nothing that it refers to refers to it.
class Target:
    """What a line resolves to; valid as long as its product-location is cached.

    Attributes:
        level: where it reserves.
        record_key: key that a record with this line must carry.
        content: hash of the line's words, without quantity and options.
        stamp: what `plain` writes into the rows of a grant, in one piece: hashes of location,
            reservation and content, and the encoded place.

    """

    __slots__ = ("content", "level", "record_key", "stamp")

    def __init__(self, level: Level, record_key: bytes, content: bytes) -> None:
        self.level = level
        self.record_key = record_key
        self.content = content
        place = level.place_row
        self.stamp = b"%b%b%b%b" % (level.location.hash, level.reservation, content, place)


class Refusal(NamedTuple):
    """A line that is refused before stock is looked at."""

    code: Code
    message: str


def text_is_valid(text: str, length_max: int) -> bool:
    """Whether a text is within its length and has no control characters."""
    return len(text) <= length_max and (text.isprintable() or not _CONTROL.search(text))


def id_is_valid(text: str, length_max: int) -> bool:
    """Whether an id is not empty, within its length and without control characters."""
    return text != "" and text_is_valid(text, length_max)


def base_dimensions(
    rules: Rules, data_source: str, dimensions: Mapping[str, str]
) -> dict[str, str] | Refusal:
    """The dimensions by base name, empty values left out."""
    joined = "".join(dimensions.values())
    if (
        not data_source
        and KNOWN_DIMENSIONS.issuperset(dimensions)
        and len(joined) <= limits.DIMENSION_VALUE_LENGTH_MAX
        and joined.isprintable()
    ):
        return {name: value for name, value in dimensions.items() if value}  # The usual spelling.
    names: Mapping[str, str] = {}
    if data_source:
        found = rules.sources.get(data_source.lower())
        if found is None:
            return Refusal(Code.DATA_SOURCE_UNKNOWN, f"data source {data_source!r} is unknown")
        names = found
    base: dict[str, str] = {}
    unknown = ""
    invalid = ""
    for name, value in dimensions.items():
        lower = name.lower()
        resolved = names.get(lower, lower)
        if resolved not in KNOWN_DIMENSIONS:
            unknown = unknown or name
        elif (
            not text_is_valid(value, limits.DIMENSION_VALUE_LENGTH_MAX)
            or base.get(resolved, value) != value
        ):
            invalid = invalid or name
        else:
            base[resolved] = value
    if unknown:
        return Refusal(Code.DIMENSION_UNKNOWN, f"dimension {unknown[:64]!r} is unknown")
    if invalid:
        return Refusal(
            Code.DIMENSION_VALUE_INVALID,
            f"dimension {invalid!r}: longer than {limits.DIMENSION_VALUE_LENGTH_MAX} characters, "
            "with control characters, or given twice with different values",
        )
    return {name: value for name, value in base.items() if value}


def level_dimensions(rules: Rules, base: Mapping[str, str]) -> dict[str, str] | Refusal:
    """The part of the dimensions that can be reserved."""
    missing = [name for name in rules.partition_dimensions if name not in base]
    if missing:
        return Refusal(Code.PARTITION_DIMENSION_MISSING, f"{missing[0]} is missing")
    level = {name: value for name, value in base.items() if name in rules.reservable}
    if not rules.filter_unconfigured and len(level) < len(base):
        extra = next(name for name in base if name not in rules.reservable)
        return Refusal(Code.LEVEL_NOT_RESERVABLE, f"{extra} is not a reservation dimension")
    depth = len(level) - len(rules.partition_dimensions)
    if not rules.crossing and len(node := rules.node_of(level, crossing=False)) < depth:
        gap = rules.hierarchy[len(node)]
        return Refusal(Code.LEVEL_NOT_RESERVABLE, f"{gap} is missing before finer dimensions")
    return level


def reservation_measure(rules: Rules, measure: str) -> str | Refusal:
    """The measure to reserve under."""
    name = measure.lower() or rules.default_measure
    if name in rules.reservation_measures:
        source = name.partition(".")[0]
        if source in rules.senders:
            return Refusal(Code.DATA_SOURCE_PROTECTED, f"{source} belongs to the ERP")
        return name
    if name in rules.measures or name.partition(".")[0] in rules.senders:
        return Refusal(Code.MEASURE_NOT_RESERVABLE, f"no availability is mapped to {name!r}")
    return Refusal(Code.MEASURE_UNKNOWN, f"measure {name[:64]!r} is unknown")


def resolve(
    state: PartitionState, organization_id: str, line: RequestLine, dimensions: Mapping[str, str]
) -> Level | Refusal:
    """The level that a product and dimensions name.

    `dimensions` are the line's, or a transfer's target.
    """
    rules = state.rules
    if not id_is_valid(line.product_id, limits.PRODUCT_LENGTH_MAX):
        return Refusal(Code.PRODUCT_INVALID, "product id: 1 to 128 characters, none of control")
    base = base_dimensions(rules, line.dimension_data_source, dimensions)
    if isinstance(base, Refusal):
        return base
    named = level_dimensions(rules, base)
    if isinstance(named, Refusal):
        return named
    measure = reservation_measure(rules, line.measure)
    if isinstance(measure, Refusal):
        return measure
    values = tuple([named[name] for name in rules.partition_dimensions])
    location = state.location(organization_id, line.product_id, values)
    level = location.level(named, measure)
    if len(location.levels) > LEVELS_CROWDED:
        state.crowded.add(location)
    return level


def record_key_of(
    rules: Rules,
    organization_id: str,
    product_id: str,
    base: dict[str, str] | Refusal,
    *,
    is_stock: bool = False,
) -> bytes | None:
    """Key that a record with these words must carry; None where they name no partition.

    `base`: its dimensions, as `base_dimensions` gives them. `is_stock`: it tells of stock alone,
    which may lie without a value of a partition dimension.
    """
    if isinstance(base, Refusal):
        return None
    values = rules.stock_values(base) if is_stock else rules.partition_values(base)
    return None if values is None else rules.record_key(organization_id, product_id, values)


def line_content(request: ReservationRequest, line: RequestLine) -> bytes:
    """Hash of a line's words: the same for any order of the dimensions."""
    words = (
        request.organization_id,
        line.product_id,
        line.dimension_data_source,
        sorted(line.dimensions.items()),
        line.measure,
    )
    return blake2b(_encode(words), digest_size=CONTENT_BYTES).digest()


def line_digest(
    content: bytes, action: str, channel: str, quantity: int, *, checked: bool
) -> bytes:
    """Digest of all that a request of one line asks, without options and rare fields.

    `content`: `line_content` of the line.
    """
    words = f"{action}|{channel}|{quantity}|{checked}"
    return blake2b(content + words.encode(), digest_size=8).digest()


def detail_content(detail: LineDetail) -> bytes:
    """A line's rare fields in one spelling."""
    target = detail.target_dimensions
    if target is not None:
        detail = msgspec.structs.replace(detail, target_dimensions=dict(sorted(target.items())))
    return _encode(detail)
