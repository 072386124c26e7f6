"""Holdfast's own interface: /v1, honest answers, holds by id."""

from starlette.routing import BaseRoute

from producers.gateway.state import Gateway


def routes(_gateway: Gateway) -> list[BaseRoute]:
    """Routes of /v1."""
    return []
