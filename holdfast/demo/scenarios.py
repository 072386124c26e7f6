"""All scenarios by name, in the order in which they are played."""

from typing import Final

from holdfast.demo.configuration_stories import RECONFIGURE
from holdfast.demo.hold_stories import BASKET, EXPIRY
from holdfast.demo.order_stories import CANCEL_AND_REDUCE, SPLIT_OFFSET
from holdfast.demo.steps import Scenario
from holdfast.demo.stock_stories import CONTOSO, CROSS_LEVEL, SHRINK, TWO_CHANNELS
from holdfast.demo.worked_example import WORKED_EXAMPLE

SCENARIOS: Final[dict[str, Scenario]] = {
    scenario.name: scenario
    for scenario in (
        WORKED_EXAMPLE,
        CONTOSO,
        TWO_CHANNELS,
        CROSS_LEVEL,
        EXPIRY,
        SPLIT_OFFSET,
        CANCEL_AND_REDUCE,
        BASKET,
        SHRINK,
        RECONFIGURE,
    )
}
assert len({scenario.product for scenario in SCENARIOS.values()}) == len(SCENARIOS), (
    "scenarios share a stack: each has a product of its own"
)
