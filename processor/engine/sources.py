"""The source partitions of an assignment, read when the cycle asks for more.

aiokafka's consumer fetches ahead, on a thread of its own: what it holds has aged while a
transaction went on, and each fetch wakes two threads, one by one, for an interpreter that runs one.
Here the request goes out when its records can be decided, and takes all that has come since the
last: at 5,000 a second an answer takes two fifths less time, and an eighth less CPU.
Membership of the group stays Faust's; its consumer has every partition paused.

The rule: a position moves only past records that are handed out with it, markers and what was
aborted; who reads under a new assignment begins at the watermarks again. Watermarks follow past
markers too (`reached`): one that stayed before the last marker of a quiet partition would point at
something deleted, when retention has taken all of it. `read_committed`, since connectors publish in
transactions of their own.

Dying here: nothing has been decided.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import structlog
from aiokafka.errors import CorruptRecordException
from aiokafka.protocol.fetch import FetchRequest_v11
from confluent_kafka import KafkaError
from faust.types import TP

from processor.engine import metrics
from processor.engine.brokers import RETRIABLE, Brokers, Unreachable, worded
from processor.engine.faults import Fault
from processor.engine.record_batches import partition_records
from processor.engine.records import Record

# A broker that has nothing answers after so long, or at the first record; what a transaction wrote
# does not end the wait, so that it may come so late. At 5 ms, an idle worker and its broker spent a
# third of a core on fetching nothing.
FETCH_WAIT_MS: Final = 50
# Of one partition, and of all in one answer. A batch larger than that comes alone (KIP-74).
PARTITION_BYTES_MAX: Final = 1024 * 1024
FETCH_BYTES_MAX: Final = 8 * 1024 * 1024  # Parsed in one go: some 20 ms.
RETRY_SECONDS: Final = 0.1  # Before a broker that was away, or did not lead, is asked again.
LOG_SECONDS: Final = 1.0  # Between two lines of the log about that.

_CONSUMER: Final = -1  # In place of a replica's id.
_ANY_BYTES: Final = 1
_READ_COMMITTED: Final = 1
_NO_SESSION: Final = (0, -1)  # Id and epoch: each request names all partitions (not KIP-227).
_UNKNOWN: Final = -1  # Leader epoch, and begin of a follower's log.
_NO_RACK: Final = ""

# Offsets that a new leader cannot vouch for yet (KIP-207) come within moments; so do, mostly, those
# behind an error that a broker has no name for.
_AGAIN: Final = RETRIABLE | {KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.UNKNOWN}

log = structlog.get_logger(__name__)

Found = dict[TP, list[Record]]


class _Asked(NamedTuple):
    """A request that is under way, and the offsets it asks for."""

    answer: asyncio.Future[Any]
    offsets: dict[TP, int]


class SourceReader:
    """Reads on from the positions of one assignment, and those added to it.

    All methods run on the loop of `brokers`.
    """

    def __init__(self, brokers: Brokers, positions: Mapping[TP, int]) -> None:
        self._brokers = brokers
        self._begins = positions
        self._positions = dict(positions)  # What was read last is asked for last.
        self._topics = {tp.topic for tp in positions}  # Of those that are added, too.
        self._asked: dict[int, _Asked] = {}  # By node; of each, one at a time.
        self._looking: asyncio.Future[None] | None = None  # For who leads now.
        self._look_after = 0.0  # time.monotonic()
        self._log_after = 0.0
        self._is_clock_told = False
        self.left_behind = False  # The last answers were full: more of their partitions waits.
        self.reached: dict[TP, int] = {}  # By the last poll: behind its records and markers.

    async def poll(self) -> Found:
        """Records of the partitions that have some; none when none came within `FETCH_WAIT_MS`.

        None either where brokers are away, for as long as that takes: whether this worker may still
        decide is what its group says, not how long they are.

        Raises:
            Fault: a position is not in the topic any more, a batch is damaged, or reading is not
                allowed.

        """
        found: Found = {}
        if len(self._begins) > len(self._positions):
            self._positions = {**self._begins, **self._positions}
        if not self._positions:  # There are more workers than partitions.
            await asyncio.sleep(FETCH_WAIT_MS / 1000)
            return found
        self.left_behind = False
        self.reached = {}
        without_leader = refused = ""
        answers: list[asyncio.Future[Any]] = []
        try:
            await self._brokers.connect(self._topics)
            without_leader = self._ask()
            answers += [asked.answer for asked in self._asked.values()]
            if answers:
                await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
            refused = self._take_in(found)
        except Unreachable as error:
            refused = str(error)
        self._look_again(refused or without_leader)
        if not found and (refused or not answers):
            await self._pause()
        return found

    def close(self) -> None:
        """Forget what is under way."""
        for future in (*(asked.answer for asked in self._asked.values()), self._looking):
            if future is not None and not future.cancel() and not future.cancelled():
                future.exception()  # Looked at: otherwise asyncio reports it as never seen.
        self._asked.clear()

    async def _pause(self) -> None:
        """Before who refused is asked again; an answer of another broker ends it."""
        pending = [asked.answer for asked in self._asked.values()]
        if pending:
            await asyncio.wait(pending, timeout=RETRY_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(RETRY_SECONDS)

    def _look_again(self, why: str) -> None:
        """Find out who leads, if something is the matter; beside the partitions that are well."""
        now = time.monotonic()
        if not why or now < self._look_after:
            return
        if now >= self._log_after:
            self._log_after = now + LOG_SECONDS
            log.warning("source partitions are asked for again", cause=why)
        if self._looking is not None:
            if not self._looking.done():
                return
            self._looking.result()
        self._look_after = now + RETRY_SECONDS
        metrics.FETCH_RETRIES.inc()
        self._looking = asyncio.ensure_future(self._brokers.look_again())

    def _ask(self) -> str:
        """Send a request to every leader that has none; returns which partition has no leader."""
        left = ""
        wanted: dict[int, dict[TP, int]] = defaultdict(dict)
        for tp, offset in self._positions.items():
            node = self._brokers.leader(*tp)
            if node is None:
                left = f"{tp.topic}-{tp.partition} has no leader"
            elif node not in self._asked:
                wanted[node][tp] = offset
        for node, offsets in wanted.items():
            answer = asyncio.ensure_future(self._brokers.ask(node, _request(offsets)))
            self._asked[node] = _Asked(answer, offsets)
        return left

    def _take_in(self, found: Found) -> str:
        """Add what was answered; returns why any of it is to be asked for again."""
        left = ""
        for node in [node for node, asked in self._asked.items() if asked.answer.done()]:
            answer, offsets = self._asked.pop(node)
            failed = answer.exception()  # Raised here, it would refer to the task that has it.
            if isinstance(failed, Unreachable):
                left = str(failed)
                continue
            response = answer.result()
            left = _left(f"broker {node}", response.error_code) or left
            for topic, partitions in response.topics:
                for number, code, _, _, _, aborted, _, data in partitions:
                    tp = TP(topic, number)
                    if self._positions[tp] != offsets[tp]:
                        continue  # Another leader answered meanwhile, and was read.
                    left = _left(f"offset {offsets[tp]} of {topic}-{number}", code) or left
                    if data:
                        self._read(tp, aborted, data, found)
        return left

    def _read(self, tp: TP, aborted: Any, data: bytes, found: Found) -> None:
        # Taken out and put back: it is last now.
        records = partition_records(tp, data, aborted, self._positions.pop(tp))
        try:
            there = records.read()
        except CorruptRecordException as error:
            raise Fault(f"{error}: a batch of it was damaged on its way, or on disk") from error
        self._positions[tp] = self.reached[tp] = records.next_fetch_offset
        self.left_behind = self.left_behind or len(data) >= PARTITION_BYTES_MAX
        if there:
            found[tp] = there
            if there[0].timestamp == 0 and not self._is_clock_told:
                self._is_clock_told = True
                log.error(
                    "a source topic has its senders' timestamps: nothing comes due by them; "
                    "see `holdfast topics check`",
                    topic=tp.topic,
                )


def _request(offsets: Mapping[TP, int]) -> FetchRequest_v11:
    """The request for these partitions, in their order: the first ones fill the answer.

    A topic is named again where its partitions are not side by side.
    """
    topics: list[tuple[str, list[Any]]] = []
    for tp, offset in offsets.items():
        if not topics or topics[-1][0] != tp.topic:
            topics.append((tp.topic, []))
        place = (tp.partition, _UNKNOWN, offset, _UNKNOWN, PARTITION_BYTES_MAX)
        topics[-1][1].append(place)
    return FetchRequest_v11(
        _CONSUMER,
        FETCH_WAIT_MS,
        _ANY_BYTES,
        FETCH_BYTES_MAX,
        _READ_COMMITTED,
        *_NO_SESSION,
        topics,
        [],
        _NO_RACK,
    )


def _left(of_what: str, code: int) -> str:
    """Why it is to be asked for again; "" when it was read.

    Raises:
        Fault: asking again would not help.

    """
    if code == KafkaError.NO_ERROR:
        return ""
    why = f"{of_what}: {worded(code)}"
    if code in _AGAIN:
        return why
    if code == KafkaError.OFFSET_OUT_OF_RANGE:
        raise Fault(
            f"{why}: deleted by retention before it was decided, or the topic was made anew"
        )
    raise Fault(f"a source topic cannot be read: {why}")
