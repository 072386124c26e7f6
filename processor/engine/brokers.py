"""The brokers as the engine sees them: who leads, who coordinates, and asking them.

aiokafka's client keeps connections (TLS, SASL) and the cluster's metadata. A worker has two: one on
the loop of the commit thread, which runs only while that thread asks something, and one on Faust's
loop, for the source partitions. The rule: nothing is tried again here. Who asks is told
`Unreachable`, and knows what asking again means.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    IncompatibleBrokerVersion,
    KafkaError,
    TransactionalIdAuthorizationFailed,
)
from aiokafka.protocol.api import RequestStruct
from aiokafka.structs import TopicPartition
from confluent_kafka import KafkaError as ConfluentError

from processor.engine.faults import Fault
from processor.engine.transaction_wire import NO_TAGS, ApiVersions, Ask, finalized_features

PROTECTED_TRANSACTIONS: Final = 2  # Level of transaction.version from which KIP-890 holds whole.
CLOSE_SECONDS_MAX: Final = 1.0
# Of a connection: what stands between may drop it after some minutes and tell nobody.
IDLE_MS_MAX: Final = 60_000
GROUP: Final = CoordinationType.GROUP
TRANSACTION: Final = CoordinationType.TRANSACTION

# What the broker asks us to try again: leadership and coordination move, or are being loaded.
RETRIABLE: Final = frozenset(
    {
        ConfluentError.UNKNOWN_TOPIC_OR_PART,
        ConfluentError.LEADER_NOT_AVAILABLE,
        ConfluentError.NOT_LEADER_FOR_PARTITION,
        ConfluentError.REQUEST_TIMED_OUT,
        ConfluentError.BROKER_NOT_AVAILABLE,
        ConfluentError.REPLICA_NOT_AVAILABLE,
        ConfluentError.NETWORK_EXCEPTION,
        ConfluentError.COORDINATOR_LOAD_IN_PROGRESS,
        ConfluentError.COORDINATOR_NOT_AVAILABLE,
        ConfluentError.NOT_COORDINATOR,
        ConfluentError.NOT_ENOUGH_REPLICAS,
        ConfluentError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        ConfluentError.KAFKA_STORAGE_ERROR,
        ConfluentError.FENCED_LEADER_EPOCH,
        ConfluentError.UNKNOWN_LEADER_EPOCH,
    }
)
_FORBIDDEN: Final = frozenset(
    {
        ConfluentError.TOPIC_AUTHORIZATION_FAILED,
        ConfluentError.GROUP_AUTHORIZATION_FAILED,
        ConfluentError.CLUSTER_AUTHORIZATION_FAILED,
        ConfluentError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)

_NO_LEADER: Final = -1


def worded(code: int) -> str:
    """What an error code says; for a right that is missing, also where rights are written down."""
    hint = " (docs/security.md)" if code in _FORBIDDEN else ""
    return f"{ConfluentError(code).str()}{hint}"


class Unreachable(Exception):
    """Nobody answered, or nobody is known to ask; whether a request arrived is not known."""


class Brokers:
    """All methods run on one event loop."""

    def __init__(
        self, settings: Mapping[str, Any], *, client_id: str, answer_within_s: float
    ) -> None:
        self._settings = dict(settings)
        self._client_id = client_id
        self._answer_within_s = answer_within_s
        self._client: Any = None
        self._coordinators: dict[tuple[CoordinationType, str], int] = {}

    async def connect(self, topics: Iterable[str]) -> None:
        """Find the cluster, and the leaders of these topics, unless that was done.

        Raises:
            Unreachable: no broker answers.

        """
        if self._client is not None:
            return
        client = AIOKafkaClient(
            **self._settings,
            client_id=self._client_id,
            request_timeout_ms=int(self._answer_within_s * 1000),
            connections_max_idle_ms=IDLE_MS_MAX,
        )
        try:
            await client.bootstrap()
            await client.set_topics(list(topics))
        except (KafkaError, OSError, TimeoutError) as error:
            await client.close()
            raise Unreachable(str(error)) from error
        except asyncio.CancelledError:
            await client.close()
            raise
        self._client = client

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._client.close(), CLOSE_SECONDS_MAX)

    async def protect_transactions(self) -> bool:
        """Whether the cluster has agreed on transactions that protect themselves (KIP-890).

        Raises:
            Unreachable: no broker answers.

        """
        asked = ApiVersions("holdfast", "1", NO_TAGS)
        response = await self.ask(self._client.get_random_node(), asked)
        level = finalized_features(response.tags).get("transaction.version", 0)
        return level >= PROTECTED_TRANSACTIONS

    async def follow(self, topic: str) -> None:
        """Know the leaders of one more topic from now on."""
        await self._client.add_topic(topic)

    def leader(self, topic: str, partition: int) -> int | None:
        """The broker that takes records of this partition; None while there is none."""
        node = self._client.cluster.leader_for_partition(TopicPartition(topic, partition))
        return None if node is None or node == _NO_LEADER else int(node)

    async def look_again(self) -> None:
        """Forget who coordinates, and ask who leads."""
        self._coordinators.clear()
        if self._client is not None:
            await self._client.force_metadata_update()

    async def open(self, node: int) -> None:
        """Connect to the broker, unless that was done.

        Raises:
            Unreachable: it cannot be; the client has logged why.

        """
        if not await self._client.ready(node):
            raise Unreachable(f"broker {node} takes no connection")

    async def ask(self, node: int | None, request: RequestStruct) -> Any:
        """The node's response.

        Raises:
            Unreachable: there is none.
            Fault: the broker is too old.

        """
        if node is None:
            raise Unreachable("no broker is known")
        try:
            return await self._client.send(node, Ask(request))
        except IncompatibleBrokerVersion as error:
            raise Fault(f"{error}: Holdfast needs Kafka 2.8 or later") from error
        except (KafkaError, OSError, TimeoutError, KeyError) as error:
            # KeyError: the client forgot the connection that it wanted to close for a timeout.
            raise Unreachable(f"broker {node}: {error!r}") from error

    async def ask_coordinator(
        self, kind: CoordinationType, name: str, request: RequestStruct
    ) -> Any:
        """The response of who coordinates this group or transactional id.

        Raises:
            Unreachable: there is none.
            Fault: the broker is too old.

        """
        return await self.ask(await self.coordinator(kind, name), request)

    async def coordinator(self, kind: CoordinationType, name: str) -> int:
        """The broker that coordinates this group or transactional id.

        Raises:
            Unreachable: nobody says.
            Fault: this worker may not know.

        """
        node = self._coordinators.get((kind, name))
        if node is None:
            try:
                node = await self._client.coordinator_lookup(kind, name)
            except (GroupAuthorizationFailedError, TransactionalIdAuthorizationFailed) as error:
                raise Fault(f"{name}: {worded(error.errno)}") from error
            except (KafkaError, OSError, TimeoutError) as error:
                raise Unreachable(f"coordinator of {name}: {error!r}") from error
            self._coordinators[kind, name] = node
        return node
