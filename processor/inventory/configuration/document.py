"""The configuration document: its structs, its JSON form and the names it is written in.

The rule it keeps: inside, every name (data source, measure, dimension) is lower case, because names
are case-insensitive; values of dimensions and channel names are not names and keep their case.
The published form is `schemas/configuration.schema.json`, generated from these structs.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta

from schemas.limits import DEDUPE_WINDOW_MS, EXPIRY_MAX_MS

# The closed vocabulary of the original: 13 standard, 12 custom and 8 extension dimensions.
BASE_DIMENSIONS: Final = (
    "colorid",
    "sizeid",
    "styleid",
    "configid",
    "batchid",
    "serialid",
    "siteid",
    "locationid",
    "statusid",
    "wmslocationid",
    "wmspalletid",
    "licenseplateid",
    "versionid",
    *(f"customdimension{number}" for number in range(1, 13)),
    *(f"extendeddimension{number}" for number in range(1, 9)),
)

Value = TypeVar("Value")

DATA_SOURCES_MAX: Final = 64
MEASURES_MAX: Final = 256  # Physical, and as many calculated, of one data source.
TERMS_MAX: Final = 64  # Of one calculated measure.
CHANNELS_MAX: Final = 1_000
INDEX_SETS_MAX: Final = 16
BUCKETS_MAX: Final = 4_096
GRACE_MAX_MS: Final = 24 * 3_600_000
DEDUPE_WINDOW_MIN_MS: Final = 60_000  # A client that retries does so within a minute at least.
DEDUPE_WINDOW_MAX_MS: Final = 7 * 24 * 3_600_000  # Retention of the request topic.

Name = Annotated[
    str, Meta(pattern=r"^@?[A-Za-z][A-Za-z0-9_]{0,63}$", description="A name, case-insensitive.")
]
MeasureName = Annotated[
    str,
    Meta(
        pattern=r"^@?[A-Za-z][A-Za-z0-9_]{0,63}\.@?[A-Za-z][A-Za-z0-9_]{0,63}$",
        description="source.measure, case-insensitive, for example fno.physicalinvent.",
    ),
]
SignedMeasure = Annotated[
    str,
    Meta(
        pattern=r"^[+-]@?[A-Za-z][A-Za-z0-9_]{0,63}\.@?[A-Za-z][A-Za-z0-9_]{0,63}$",
        description="+source.measure or -source.measure of a physical measure.",
    ),
]
ChannelName = Annotated[str, Meta(min_length=1, max_length=64, description="Channel, exact case.")]
Milliseconds = Annotated[int, Meta(ge=1, le=EXPIRY_MAX_MS, description="Milliseconds.")]


class Term(NamedTuple):
    """One term of a calculated measure: `sign` is +1 or -1, `measure` is `source.measure`."""

    sign: int
    measure: str


class DataSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A system that tells about stock: its dimension names and its measures.

    Attributes:
        dimension_mappings: the source's own dimension names to base names. A caller that names the
            source may use these or the base names.
        physical_measures: names of the quantities it keeps, without the source.
        calculated_measures: name to signed sum of physical measures (of any source); calculated
            measures do not nest.

    """

    dimension_mappings: dict[Name, Name] = {}
    physical_measures: Annotated[tuple[Name, ...], Meta(max_length=MEASURES_MAX)] = ()
    calculated_measures: Annotated[
        dict[Name, Annotated[tuple[SignedMeasure, ...], Meta(min_length=1, max_length=TERMS_MAX)]],
        Meta(max_length=MEASURES_MAX),
    ] = {}


class ReservationRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be reserved, out of what, and at which levels.

    Attributes:
        enabled: the feature toggle OnHandReservation.
        mapping: reservation measure (physical) to the calculated measure it is reserved out of. The
            first is the measure of a request line that names none.
        dimensions: the dimensions that count, in order; the partition's own come first.
        mode: `prefix`: a level is a prefix of `dimensions` that holds the partition's own.
            `subset`: a level is any subset of them that holds the partition's own.
        filter_unconfigured_dimensions: a request's other dimensions are ignored, not refused.
        cross_level: `hierarchical`: a hold counts at every level it belongs to. `independent`: at
            its own level alone, as the original does; stock can then be promised twice.

    """

    enabled: bool = True
    mapping: dict[MeasureName, MeasureName]
    dimensions: tuple[Name, ...]
    mode: Literal["prefix", "subset"] = "prefix"
    filter_unconfigured_dimensions: bool = True
    cross_level: Literal["hierarchical", "independent"] = "hierarchical"


class PartitionRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What lies together in one partition. Fixed for the life of the topics.

    Attributes:
        rule: `by-location`: key `organization|site|location`. `by-location-and-product`: the same
            with a bucket of the product's hash, for a huge warehouse. `by-product`: key
            `organization|product`.
        buckets: hash buckets of one location, for `by-location-and-product` alone.

    """

    rule: Literal["by-location", "by-location-and-product", "by-product"] = "by-location"
    buckets: Annotated[int, Meta(ge=1, le=BUCKETS_MAX)] = 64

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Base dimensions that every request must name: the key is made of them."""
        return () if self.rule == "by-product" else ("siteid", "locationid")


class OffsetRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the ERP's order statuses take reservations over.

    Attributes:
        enabled: off: statuses change measures only.
        modifier: `reserve`: at Reserved ordered or Reserved physical, else at the nearest later
            status. `on-order`: when the order line is created.
        match: dimensions that must agree between the ERP's line and the reservation; null: all
            reservation dimensions. The partition's own always must.
        reversal: an offset transaction goes back below the trigger: `reinstate` the hold, or
            `ignore`.
        cancellation: a line is cancelled, deleted or reduced: `release` its quantity (what was
            offset stays offset, what was still held is given back), or `keep` it held (what was
            offset is held again).

    """

    enabled: bool = True
    modifier: Literal["on-order", "reserve"] = "reserve"
    match: tuple[Name, ...] | None = None
    reversal: Literal["reinstate", "ignore"] = "reinstate"
    cancellation: Literal["release", "keep"] = "release"


class Expiry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long a channel's holds live.

    Attributes:
        default_expiry_ms: for a request that names none, after its append time; null: never.
        maximum_expiry_ms: the longest a request may name.

    """

    default_expiry_ms: Milliseconds | None = None
    maximum_expiry_ms: Milliseconds = EXPIRY_MAX_MS


class Configuration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a decision depends on besides stock, holds and the record itself.

    Attributes:
        environment: name of the deployment; a document of another one is refused.
        version: grows by every applied document.
        comment: why this version, for people.
        data_sources: by name.
        reservation: what can be reserved.
        partition: what lies together.
        offset: how statuses take over.
        index_sets: dimensions that on-hand queries group by, in order, without the partition's own;
            an empty list is the set without dimensions.
        channels: expiry by channel; `other_channels` for those not listed.
        other_channels: expiry of every other channel.
        grace_ms: how long after its expiry a hold can still be confirmed, extended or offset, if
            the stock is still there.
        protected_sources: data source to the senders that may change its measures; nobody can
            reserve on one.
        supply_shrink: when supply falls below what is held: `keep-and-alert` keeps all holds and
            tells; `newest-first` ends the newest; `priority` the lowest priority, newest first.
        dedupe_window_ms: how long a request or event id is remembered.

    """

    environment: Name
    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    comment: Annotated[str, Meta(max_length=1_000)] = ""
    data_sources: Annotated[dict[Name, DataSource], Meta(min_length=1, max_length=DATA_SOURCES_MAX)]
    reservation: ReservationRules
    partition: PartitionRule = PartitionRule()
    offset: OffsetRules = OffsetRules()
    index_sets: Annotated[tuple[tuple[Name, ...], ...], Meta(max_length=INDEX_SETS_MAX)] = (
        ("colorid", "sizeid", "styleid"),
    )
    channels: Annotated[dict[ChannelName, Expiry], Meta(max_length=CHANNELS_MAX)] = {}
    other_channels: Expiry = Expiry()
    grace_ms: Annotated[int, Meta(ge=0, le=GRACE_MAX_MS)] = 0
    protected_sources: dict[Name, tuple[Name, ...]] = msgspec.field(
        default_factory=lambda: {"fno": ("fno",)}
    )
    supply_shrink: Literal["keep-and-alert", "newest-first", "priority"] = "keep-and-alert"
    dedupe_window_ms: Annotated[int, Meta(ge=DEDUPE_WINDOW_MIN_MS, le=DEDUPE_WINDOW_MAX_MS)] = (
        DEDUPE_WINDOW_MS
    )

    def terms(self, calculated_measure: str) -> tuple[Term, ...]:
        """Signed terms of `source.name`. Raises KeyError where there is no such measure."""
        source, _, name = calculated_measure.partition(".")
        return parse_terms(self.data_sources[source].calculated_measures[name])

    def expiry_of(self, channel: str) -> Expiry:
        """Expiry rules of the channel."""
        return self.channels.get(channel, self.other_channels)

    @property
    def physical_measures(self) -> frozenset[str]:
        """Every physical measure as `source.measure`."""
        return frozenset(
            f"{source}.{measure}"
            for source, content in self.data_sources.items()
            for measure in content.physical_measures
        )

    @property
    def calculated_measures(self) -> frozenset[str]:
        """Every calculated measure as `source.measure`."""
        return frozenset(
            f"{source}.{measure}"
            for source, content in self.data_sources.items()
            for measure in content.calculated_measures
        )


def parse_terms(formula: Iterable[str]) -> tuple[Term, ...]:
    """Split `+source.measure` and `-source.measure` into terms."""
    return tuple(Term(-1 if text.startswith("-") else 1, text[1:]) for text in formula)


def normalised(configuration: Configuration) -> Configuration:
    """Return the same document with every name in lower case.

    Raises:
        msgspec.ValidationError: two names differ only in case.

    """
    reservation = msgspec.structs.replace(
        configuration.reservation,
        mapping=_lower_names(configuration.reservation.mapping),
        dimensions=_lower(configuration.reservation.dimensions),
    )
    match = configuration.offset.match
    return msgspec.structs.replace(
        configuration,
        environment=configuration.environment.lower(),
        data_sources={
            name: _normalised_source(source)
            for name, source in _lower_keys(configuration.data_sources).items()
        },
        reservation=reservation,
        offset=msgspec.structs.replace(
            configuration.offset, match=None if match is None else _lower(match)
        ),
        index_sets=tuple(_lower(names) for names in configuration.index_sets),
        protected_sources={
            name: _lower(senders)
            for name, senders in _lower_keys(configuration.protected_sources).items()
        },
    )


def from_json(document: bytes) -> Configuration:
    """Read the JSON form, as the topic and CONFIGURE carry it; not yet validated.

    Raises:
        msgspec.DecodeError: not JSON, or (its subclass ValidationError) not of this shape.

    """
    return normalised(msgspec.json.decode(document, type=Configuration))


def to_json(configuration: Configuration) -> bytes:
    """Write the JSON form: the same document gives the same bytes."""
    return msgspec.json.encode(configuration)


def _lower(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.lower() for name in names)


def _lower_keys(entries: Mapping[str, Value]) -> dict[str, Value]:
    lowered: dict[str, Value] = {}
    for name, value in entries.items():
        if name.lower() in lowered:
            raise msgspec.ValidationError(f"`{name}` is there twice, in different case")
        lowered[name.lower()] = value
    return lowered


def _lower_names(entries: Mapping[str, str]) -> dict[str, str]:
    return {name: value.lower() for name, value in _lower_keys(entries).items()}


def _normalised_source(source: DataSource) -> DataSource:
    return DataSource(
        dimension_mappings=_lower_names(source.dimension_mappings),
        physical_measures=_lower(source.physical_measures),
        calculated_measures={
            name: _lower(terms) for name, terms in _lower_keys(source.calculated_measures).items()
        },
    )


def json_schema() -> str:
    """Return the JSON Schema of the document, as published; ends with a line end."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast configuration",
        **msgspec.json.schema(Configuration),
    }
    return msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"
