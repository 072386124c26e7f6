# ruff: noqa: ARG002 - the arguments are the protocol's
"""A gateway without a read view: it writes, and says of every question that nobody answers it."""

from typing import Any, Final, NoReturn

from schemas.queries import (
    DecisionView,
    FailurePage,
    FailureView,
    HoldPage,
    HoldQuery,
    HoldView,
    OnHandPage,
    OnHandQuery,
    ProductPage,
    ReservationView,
    ViewHealth,
    ViewUnavailable,
)

REASON: Final = "no read view is configured (REDIS_URL)"


def _nobody() -> NoReturn:
    raise ViewUnavailable(REASON)


class NoView:
    """Answers no question; see `schemas.queries.Queries`."""

    async def on_hand(self, query: OnHandQuery) -> OnHandPage:
        """Nobody answers."""
        _nobody()

    async def products(self, cursor: str = "") -> ProductPage:
        """Nobody answers."""
        _nobody()

    async def holds(self, query: HoldQuery) -> HoldPage:
        """Nobody answers."""
        _nobody()

    async def hold(self, hold_id: str) -> HoldView | None:
        """Nobody answers."""
        _nobody()

    async def reservation(self, reservation_id: str) -> ReservationView | None:
        """Nobody answers."""
        _nobody()

    async def decision(self, request_id: str) -> DecisionView | None:
        """Nobody answers."""
        _nobody()

    async def recent_decisions(
        self, limit: int = 100, partition: int | None = None
    ) -> list[DecisionView]:
        """Nobody answers."""
        _nobody()

    async def failures(
        self, organization_id: str = "", cursor: str = "", limit: int = 100
    ) -> FailurePage:
        """Nobody answers."""
        _nobody()

    async def failure(self, failure_id: str) -> FailureView | None:
        """Nobody answers."""
        _nobody()

    async def reached(self, partition: int, topic: str, offset: int, within_s: float) -> bool:
        """Nothing is reached."""
        return False

    async def configuration(self) -> dict[str, Any]:
        """Nobody answers."""
        _nobody()

    async def partitions(self) -> list[str]:
        """Nobody answers."""
        _nobody()

    async def health(self) -> ViewHealth:
        """Nobody answers."""
        _nobody()

    async def close(self) -> None:
        """Nothing to let go of."""
