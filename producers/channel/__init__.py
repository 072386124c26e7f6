"""The channel client: how an order system asks for stock over the topics and gets its answer.

`ChannelClient` (threads) and `AsyncChannelClient` (asyncio) share their verbs; see
`producers.channel.client`.
"""

from producers.channel.basket import BasketOutcome
from producers.channel.client import AsyncChannelClient, ChannelClient
from producers.channel.outcomes import (
    Answer,
    ChannelError,
    EventAnswer,
    InFlightError,
    RecordTooLargeError,
    Undecided,
    Unknown,
    code_name,
    granted,
)
from producers.channel.requests import BasketLine, Item

__all__ = [
    "Answer",
    "AsyncChannelClient",
    "BasketLine",
    "BasketOutcome",
    "ChannelClient",
    "ChannelError",
    "EventAnswer",
    "InFlightError",
    "Item",
    "RecordTooLargeError",
    "Undecided",
    "Unknown",
    "code_name",
    "granted",
]
