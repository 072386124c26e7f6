"""The two editions of the original's defaults, as documents to start from.

The rule it keeps: measures and formulas are those of the edition, term for term. The two differ in
the names of measures as well, so a deployment starts from the edition its callers use.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from processor.inventory.configuration.document import (
    Configuration,
    DataSource,
    ReservationRules,
)

# The ERP's own dimension names.
_FNO_DIMENSIONS: Final = {
    "inventbatchid": "batchid",
    "inventcolorid": "colorid",
    "inventlocationid": "locationid",
    "inventserialid": "serialid",
    "inventsiteid": "siteid",
    "inventsizeid": "sizeid",
    "inventstatusid": "statusid",
    "inventstyleid": "styleid",
    "inventversionid": "versionid",
    "configid": "configid",
    "licenseplateid": "licenseplateid",
    "wmslocationid": "wmslocationid",
    "wmspalletid": "wmspalletid",
    **{f"inventdimension{number}": f"customdimension{number}" for number in range(1, 13)},
}

_FNO_MEASURES: Final = (
    "notspecified",
    "arrived",
    "availordered",
    "availphysical",
    "deducted",
    "onorder",
    "ordered",
    "physicalinvent",
    "picked",
    "postedqty",
    "quotationissue",
    "quotationreceipt",
    "received",
    "registered",
    "reservordered",
    "reservphysical",
    "orderedsum",
)

_PREDEFINED: Final = DataSource(
    physical_measures=(
        "@softreserved",
        "@allocated",
        "@consumed",
        "@cumulative_allocated",
        "@cumulative_consumed",
    )
)

# What can be reserved, by edition.
_AVAILABLE: Final = (
    "+fno.physicalinvent",
    "+fno.ordered",
    "+fno.arrived",
    "+pos.inbound",
    "+iv.ordered",
    "-fno.reservphysical",
    "-iv.softreserved",
    "-pos.outbound",
    "-fno.softreserved",
)
_AVAILABLE_EARLY: Final = (
    "+fno.physicalinvent",
    "+iom.onhand",
    "+erp.unrestricted",
    "+erp.qualityinspection",
    "+pos.posinbound",
    "+fno.ordered",
    "+fno.arrived",
    "+iv.ordered",
    "-fno.reservphysical",
    "-fno.reservordered",
    "-iv.softreservphysical",
    "-iv.softreservordered",
    "-iv.reservphysical",
    "-iv.reservordered",
    "-pos.posoutbound",
)
_ON_HAND_EARLY: Final = (
    "+fno.physicalinvent",
    "+iom.onhand",
    "+erp.unrestricted",
    "+erp.qualityinspection",
    "+pos.posinbound",
    "-pos.posoutbound",
)

_HIERARCHY: Final = ("siteid", "locationid", "colorid", "sizeid")


def default() -> Configuration:
    """Return the 2023-11 edition: `iv.softreserved` out of `iv.availabletoreserve`."""
    return Configuration(
        environment="default",
        version=1,
        comment="2023-11 edition",
        data_sources={
            "fno": DataSource(
                dimension_mappings=_FNO_DIMENSIONS,
                physical_measures=(*_FNO_MEASURES, "softreserved"),
            ),
            "pos": DataSource(
                physical_measures=("inbound", "outbound"),
                calculated_measures={
                    "availquantity": ("+fno.availphysical", "+pos.inbound", "-pos.outbound")
                },
            ),
            "iv": DataSource(
                physical_measures=("ordered", "softreserved"),
                calculated_measures={
                    "availabletoreserve": _AVAILABLE,
                    "totalavailable": ("+fno.availordered", "-iv.softreserved", "-@iv.@allocated"),
                    "totalonhand": ("+fno.physicalinvent",),
                },
            ),
            "iom": DataSource(physical_measures=("onorder", "onhand")),
            "erp": DataSource(physical_measures=("unrestricted", "qualityinspection")),
            "@iv": _PREDEFINED,
        },
        reservation=ReservationRules(
            mapping={"iv.softreserved": "iv.availabletoreserve"}, dimensions=_HIERARCHY
        ),
    )


def early_2023() -> Configuration:
    """Return the early-2023 edition: `iv.softreservphysical`, and no stray dimension accepted."""
    return Configuration(
        environment="default",
        version=1,
        comment="early-2023 edition",
        data_sources={
            "fno": DataSource(dimension_mappings=_FNO_DIMENSIONS, physical_measures=_FNO_MEASURES),
            "pos": DataSource(physical_measures=("posinbound", "posoutbound")),
            "iv": DataSource(
                physical_measures=(
                    "ordered",
                    "softreservphysical",
                    "softreservordered",
                    "reservordered",
                    "reservphysical",
                ),
                calculated_measures={
                    "availabletoreserve": _AVAILABLE_EARLY,
                    "orderedtotal": ("+fno.ordered", "+fno.arrived", "+iv.ordered"),
                    "onhand": _ON_HAND_EARLY,
                    "softreserved": ("+iv.softreservphysical", "+iv.softreservordered"),
                    "openorder": ("+fno.onorder", "+iom.onorder"),
                    "onhandavailable": (
                        *_ON_HAND_EARLY,
                        "-fno.reservphysical",
                        "-iv.softreservphysical",
                    ),
                },
            ),
            "iom": DataSource(physical_measures=("onorder", "onhand")),
            "erp": DataSource(physical_measures=("unrestricted", "qualityinspection")),
            "@iv": _PREDEFINED,
        },
        reservation=ReservationRules(
            mapping={"iv.softreservphysical": "iv.availabletoreserve"},
            dimensions=_HIERARCHY,
            filter_unconfigured_dimensions=False,
        ),
    )


PRESETS: Final[Mapping[str, Callable[[], Configuration]]] = MappingProxyType(
    {"2023-11": default, "early-2023": early_2023}
)
