"""The page of metrics tells what a scrape tells."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

import processor.engine.metrics
import processor.view.metrics  # noqa: F401 - makes its metrics
import producers.scm.metrics  # noqa: F401 - makes its metrics
from producers.gateway.metrics import Metrics
from producers.gateway.v1.events import StreamMetrics

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def families() -> list[Metric]:
    """Every metric of worker, view, gateway and connector."""
    gateway = Metrics(cast("Any", SimpleNamespace(in_flight=0))).registry
    StreamMetrics(gateway, cast("Any", SimpleNamespace(readers=0)))
    found = [*REGISTRY.collect(), *gateway.collect()]
    return [one for one in found if one.name.startswith("holdfast_")]


def scraped_name(family: Metric) -> str:
    """Name as a scrape tells it, without labels."""
    return family.name + ("_total" if family.type == "counter" else "")


@pytest.mark.parametrize("family", families(), ids=lambda one: one.name)
def test_every_metric_is_on_the_page(family: Metric) -> None:
    """Name as it is scraped, kind, and meaning in the words of the code."""
    name = scraped_name(family)
    meaning = family.documentation.rstrip(".")
    rows = [line for line in PAGE.splitlines() if line.startswith((f"| `{name}`", f"| `{name}{{"))]
    assert f"{family.type} | {meaning} |" in [row.split(" | ", 1)[1] for row in rows]


def test_the_page_names_no_other_metric() -> None:
    """What it says of a metric is about one that there is."""
    known = {scraped_name(one) for one in families()}
    told = {word.strip("`|{,;. ").split("{")[0] for word in PAGE.split() if "holdfast_" in word}
    assert told <= known
