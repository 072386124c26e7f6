"""Configuration as data: what a deployment decides by, as one versioned document.

The rule it keeps: a document is a value. Reading it, checking it and comparing two of them are
pure; nobody but `holdfast config apply` puts one to work, and a decision only sees a checked one.

`document` the structs · `presets` the editions · `check` what is wrong with one · `compare` what
changes between two · `file` the YAML form, with line numbers in its errors.
"""

from processor.inventory.configuration.check import Problem, errors, validate
from processor.inventory.configuration.compare import Change, diff
from processor.inventory.configuration.document import (
    BASE_DIMENSIONS,
    Configuration,
    DataSource,
    Expiry,
    OffsetRules,
    PartitionRule,
    ReservationRules,
    Term,
    from_json,
    json_schema,
    normalised,
    to_json,
)
from processor.inventory.configuration.file import Parsed, dump, parse
from processor.inventory.configuration.presets import PRESETS, default, early_2023

__all__ = [
    "BASE_DIMENSIONS",
    "PRESETS",
    "Change",
    "Configuration",
    "DataSource",
    "Expiry",
    "OffsetRules",
    "Parsed",
    "PartitionRule",
    "Problem",
    "ReservationRules",
    "Term",
    "default",
    "diff",
    "dump",
    "early_2023",
    "errors",
    "from_json",
    "json_schema",
    "normalised",
    "parse",
    "to_json",
    "validate",
]
