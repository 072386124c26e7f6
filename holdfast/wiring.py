"""Puts the rooms together: codec, configuration, decisions."""

from processor.decider import StockDomain
from processor.settings import WorkerSettings
from schemas.codec import Codec
from schemas.registry import SchemaIds


def stock_domain(settings: WorkerSettings) -> StockDomain:
    """Build the domain a worker decides with."""
    ids = SchemaIds(settings.registry_url, cache=settings.data_dir / "schema-ids.json")
    return StockDomain(Codec(ids))
