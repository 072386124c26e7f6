"""All scenarios by name, in the order in which they are played."""

from typing import Final

from holdfast.demo.steps import Scenario
from holdfast.demo.worked_example import WORKED_EXAMPLE

SCENARIOS: Final[dict[str, Scenario]] = {scenario.name: scenario for scenario in (WORKED_EXAMPLE,)}
