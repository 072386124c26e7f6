"""The committed rows of one partition, in RocksDB: a cache of the changelog, never its rival.

The rule: rows and the changelog offset they reach are written in one write batch, and only after
the Kafka transaction that carried them was committed. There is no write-ahead log: what a crash
takes from the memtable, offset and rows together, is read again from the changelog. So a database
has everything up to its changelog offset, and may be thrown away at any time.

Rows of the *rewritten* kinds, the sums that nearly every decision changes, may wait in memory for
some seconds, so that the database is given the last of many values alone: a write costs 1.2 us, and
a third of all rows were such. The offset waits with them. Behind it the database then has the newer
values of the other kinds already; who reads on from the offset writes those once more, and comes to
the same rows. The first row of a group never waits: so every group is found by who walks them.
"""

import shutil
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from rocksdict import (
    BlockBasedIndexType,
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    Options,
    Rdict,
    UniversalCompactOptions,
    WriteBatch,
    WriteOptions,
)

# Keys beginning with this byte are the engine's and never reach the changelog.
_POSITION_KEY: Final = b"\x00position"
# Behind it the database has no row, whatever its position: see `PartitionStore.written`.
_WRITTEN_KEY: Final = b"\x00written"
_POSITION: Final = struct.Struct(">qq")

WRITE_BUFFER_BYTES: Final = 32 * 1024 * 1024  # Per partition, times two: memory against flushes.
WRITE_BUFFERS: Final = 2
BLOCK_BYTES: Final = 8 * 1024
METADATA_BLOCK_BYTES: Final = 4 * 1024
BLOOM_BITS: Final = 10  # One percent of lookups of an unknown request id touch a block.

# How large all later runs may become, in percent of the oldest one, until everything is merged: the
# most that is replaced but still there. What was deleted may stay as long.
LATER_RUNS_PERCENT_MAX: Final = 100

# What RocksDB says of a database of which a part is missing or damaged.
_BROKEN: Final = ("Corruption", "No such file or directory")

_NONE: Final[Mapping[int, int]] = {}

log = structlog.get_logger(__name__)

Derive = Callable[[bytes, bytes], Iterable[tuple[bytes, bytes]]]


class Position(msgspec.Struct, frozen=True):
    """How far the database has followed its changelog.

    Attributes:
        offset: next changelog offset to apply.
        timestamp_ms: when the last record applied was written, or it was seen that there was no
            other; tells how old an old copy is.
        topic_id: incarnation of the changelog topic the offset belongs to.

    """

    offset: int
    timestamp_ms: int
    topic_id: str


def shared_cache(cache_bytes: int) -> Cache:
    """Block cache shared by all partitions of the worker, bounded by `cache_bytes`.

    A lookup passes half a dozen blocks of index and filter. In a hyper clock cache that takes no
    lock: a tenth less a lookup than in an LRU cache, 6 % of an offset's CPU. Its table has a fixed
    size, for entries as small as the smallest blocks (one that grows is not yet declared fit for
    production in RocksDB 9).
    """
    return Cache.new_hyper_clock_cache(cache_bytes, METADATA_BLOCK_BYTES)


def _options(cache: Cache) -> Options:
    table = BlockBasedOptions()
    table.set_block_cache(cache)
    table.set_block_size(BLOCK_BYTES)
    table.set_bloom_filter(BLOOM_BITS, block_based=False)
    table.set_cache_index_and_filter_blocks(True)
    # In pieces: the index of a large file is beyond what a small cache keeps of one block, and was
    # read and unpacked for every seek (340 us instead of 38).
    table.set_index_type(BlockBasedIndexType.two_level_index_search())
    table.set_partition_filters(True)
    table.set_metadata_block_size(METADATA_BLOCK_BYTES)
    table.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(table)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_max_write_buffer_number(WRITE_BUFFERS)
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.05)
    # Rows come in the order of hashes, all over the key range: by levels, a few new ones rewrite
    # all files of the next level. Merging runs of like size took a third less CPU in the background
    # (2.7 million holds in a partition: 7 us a decision instead of 11; before a million, 5 and 6).
    options.set_compaction_style(DBCompactionStyle.universal())
    merging = UniversalCompactOptions()
    merging.max_size_amplification_percent = LATER_RUNS_PERCENT_MAX
    options.set_universal_compaction_options(merging)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    return options


class _Waiting:
    """Rows that wait to be written, and where they are.

    `rows`: None for one that is to go. `groups`: the keys of those of each group; a group that is
    here has a row in the database. One thread writes, another may read.
    """

    __slots__ = ("groups", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes | None] = {}
        self.groups: dict[bytes, list[bytes]] = {}

    def take(self, key: bytes, value: bytes | None, group_length: int) -> bool:
        """Let the row wait; False: nothing says that the database has a row of its group."""
        if key in self.rows:
            self.rows[key] = value
            return True
        group = key[:group_length]
        keys = self.groups.get(group)
        if keys is None:
            if value is not None:
                self.groups[group] = []
            return False
        self.rows[key] = value  # Before its key: who finds that finds the row.
        keys.append(key)
        return True

    def keys(self, group: bytes) -> list[bytes]:
        """Keys of the group, in order."""
        keys = self.groups.get(group)
        return sorted(keys) if keys else []


class PartitionStore:
    """RocksDB of one partition.

    Opening wipes it when it belongs to another incarnation of the topic.
    """

    __slots__ = (
        "_at_rest",
        "_cache",
        "_db",
        "_derive",
        "_indexed_kinds",
        "_may_have_index",
        "_reached",
        "_rewritten",
        "_waiting",
        "_writes",
        "path",
        "position",
        "written",
    )

    def __init__(
        self,
        path: Path,
        *,
        cache: Cache,
        topic_id: str,
        derive: Derive,
        indexed_kinds: frozenset[int],
        rewritten_kinds: Mapping[int, int] = _NONE,
    ) -> None:
        """Open it.

        `rewritten_kinds`: kind bytes of rows that may wait, and the length of kind and group.
        """
        self.path = path
        self._rewritten = dict(rewritten_kinds)
        self._waiting = _Waiting()
        self._cache = cache
        self._derive = derive
        self._writes = 0
        # The iterator of a scan that has ended, and which writes it saw: setting one up costs 15 us
        # more than moving it. It holds what it saw, so it is let go with the next write.
        self._at_rest: tuple[int, Any] | None = None
        self._indexed_kinds = indexed_kinds
        self.position = Position(0, 0, "")  # What the database has everything of.
        self.written = 0  # Offset up to which it may have something.
        self._reached = self.position  # What it has with the rows that wait.
        self._open()
        if self.position.topic_id not in ("", topic_id):
            self.wipe()
        self.position = msgspec.structs.replace(self.position, topic_id=topic_id)

    def _open(self) -> None:
        """Open what is there; what is broken is thrown away, once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._gone, ignore_errors=True)
        try:
            self._connect()
        except Exception as error:  # rocksdict knows no other.
            if not any(words in str(error) for words in _BROKEN):
                raise
            log.warning("a broken database is thrown away", path=str(self.path), error=str(error))
            self._throw_away()
            self._connect()

    def _connect(self) -> None:
        options = _options(self._cache)
        # Named as a column family, too: for a database that is there already rocksdict otherwise
        # takes the options that are stored with it, and no cache of ours can be among them.
        self._db = Rdict(str(self.path), options=options, column_families={"default": options})
        write_options = WriteOptions()
        write_options.disable_wal = True
        self._db.set_write_options(write_options)
        self.position = _decode_position(self._db.get(_POSITION_KEY))
        written = _decode_position(self._db.get(_WRITTEN_KEY))
        self.written = max(self.position.offset, written.offset)
        self._may_have_index = self.position.offset > 0
        self._forget_waiting()

    def wipe(self) -> None:
        """Throw the database away; the changelog has everything."""
        topic_id = self.position.topic_id
        self._writes += 1
        self._at_rest = None
        self._db.close()
        self._throw_away()
        self._open()
        self.position = msgspec.structs.replace(self.position, topic_id=topic_id)

    @property
    def _gone(self) -> Path:
        return self.path.with_name(f"{self.path.name}.gone")

    def _throw_away(self) -> None:
        """Out of the way in one step: half a database could not be opened."""
        if self.path.exists():
            self.path.rename(self._gone)
        shutil.rmtree(self._gone, ignore_errors=True)

    def get(self, key: bytes) -> bytes | None:
        """Value of the committed row, or None."""
        if key[0] in self._rewritten:
            rows = self._waiting.rows
            if key in rows:
                return rows[key]
        found: bytes | None = self._db.get(key)
        return found

    def scan(self, group: bytes, after: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Committed rows of the group with a key greater than `after`, in key order."""
        waiting = self._waiting
        keys = [key for key in waiting.keys(group) if key > after]
        stored = self._scan(group, after)
        return laid_over(stored, keys, waiting.rows.get) if keys else stored

    def _scan(self, group: bytes, after: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Rows of the group that are in the database."""
        seen, iterator = self._take_iterator()
        iterator.seek(max(group, after))
        if after and iterator.valid() and iterator.key() == after:
            iterator.next()
        while iterator.valid():
            key = iterator.key()
            if not key.startswith(group):
                break
            yield key, iterator.value()
            iterator.next()
        self._put_iterator(seen, iterator)

    def _take_iterator(self) -> tuple[int, Any]:
        """One that sees every write so far but the one under way, whose rows are overlaid."""
        at_rest, self._at_rest = self._at_rest, None
        if at_rest is not None and at_rest[0] == self._writes:
            return at_rest
        seen = self._writes
        return seen, self._db.iter()

    def _put_iterator(self, seen: int, iterator: Any) -> None:
        if seen == self._writes:
            self._at_rest = seen, iterator

    def first_key(self, kind: bytes, start: bytes) -> bytes | None:
        """First committed key of the kind that is not below `start`."""
        seen, iterator = self._take_iterator()
        iterator.seek(start)
        key: bytes | None = iterator.key() if iterator.valid() else None
        self._put_iterator(seen, iterator)
        return key if key is not None and key.startswith(kind) else None

    def apply(
        self, changes: dict[bytes, bytes | None], position: Position, *, may_wait: bool = False
    ) -> None:
        """Write committed rows and the changelog offset they reach, in one batch.

        `may_wait`: not those of rewritten kinds, nor the offset; see `complete`.
        """
        self._may_have_index = True
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        waiting, rewritten = self._waiting, self._rewritten
        for key, value in changes.items():
            if key[0] in rewritten and waiting.take(key, value, rewritten[key[0]]):
                continue
            if value is None:
                delete(key)
            else:
                put(key, value)
        # The first batch of all is written whole: a database without an offset is an empty one.
        if may_wait and waiting.rows and self.position.offset:
            batch.put(_WRITTEN_KEY, _encode_position(position))
            self._give(batch, position)
            self._reached = position
        else:
            self._write(batch, position)

    @property
    def waiting(self) -> int:
        """How many rows wait; with the groups that are noted for them."""
        rows = len(self._waiting.rows)
        return rows and rows + len(self._waiting.groups)

    def complete(self) -> None:
        """Write the rows that wait, and the offset."""
        if self.waiting:
            self._write(WriteBatch(raw_mode=True), self._reached)

    def follow(self, records: Sequence[Any]) -> None:
        """Apply changelog records that were read, at least one, up to the last of them."""
        last = records[-1]
        self.restore(records, Position(last.offset + 1, last.timestamp, self.position.topic_id))

    def reach(self, offset: int, now_ms: int) -> None:
        """Note that up to this offset nothing more was there now, but markers."""
        if offset > self.position.offset:
            position = Position(offset, now_ms, self.position.topic_id)
            self._write(WriteBatch(raw_mode=True), position)

    def restore(self, records: Iterable[Any], position: Position) -> int:
        """Apply changelog records in order and the index rows derived from them; returns how many.

        A row that goes or changes takes its index rows with it, so the row it replaces is looked at
        first. As long as nothing with an index row was ever stored there is nothing to look for.
        """
        batch = WriteBatch(raw_mode=True)
        latest: dict[bytes, bytes | None] = {record.key: record.value for record in records}
        put, delete, derive, indexed = batch.put, batch.delete, self._derive, self._indexed_kinds
        found_index = False
        for key, value in latest.items():
            if key[0] in indexed and self._may_have_index:
                before = self.get(key)
                if before is not None:
                    for index_key, _ in derive(key, before):
                        delete(index_key)
            if value is None:
                delete(key)
                continue
            put(key, value)
            for index_key, index_value in derive(key, value):
                put(index_key, index_value)
                found_index = True
        self._may_have_index = self._may_have_index or found_index
        self._write(batch, position)
        return len(latest)

    def _write(self, batch: WriteBatch, position: Position) -> None:
        """Write the batch, over it all rows that wait, and the offset they reach together."""
        put, delete = batch.put, batch.delete
        for key, value in self._waiting.rows.items():
            if value is None:
                delete(key)
            else:
                put(key, value)
        batch.put(_POSITION_KEY, _encode_position(position))
        self._give(batch, position)
        self.position = position
        self._forget_waiting()  # Behind the write: whoever looks finds them here or there.

    def _give(self, batch: WriteBatch, position: Position) -> None:
        """Let RocksDB have the batch, that has rows up to this position."""
        self._db.write(batch)
        self._writes += 1
        self._at_rest = None
        self.written = position.offset

    def _forget_waiting(self) -> None:
        self._waiting = _Waiting()
        self._reached = self.position

    def close(self) -> None:
        """Flush the memtable, so that the next start has less to catch up, and close."""
        self.complete()
        self._at_rest = None
        self._db.flush()
        self._db.close()


def laid_over(
    stored: Iterator[tuple[bytes, bytes]],
    keys: Iterable[bytes],
    get: Callable[[bytes], bytes | None],
) -> Iterator[tuple[bytes, bytes]]:
    """Rows in key order: those of `keys`, which are in order, by `get`; all others as stored."""
    entry = next(stored, None)
    for key in keys:
        while entry is not None and entry[0] < key:
            yield entry
            entry = next(stored, None)
        if entry is not None and entry[0] == key:
            entry = next(stored, None)
        value = get(key)
        if value is not None:
            yield key, value
    while entry is not None:
        yield entry
        entry = next(stored, None)


def _encode_position(position: Position) -> bytes:
    return _POSITION.pack(position.offset, position.timestamp_ms) + position.topic_id.encode()


def _decode_position(value: bytes | None) -> Position:
    if value is None:
        return Position(0, 0, "")
    offset, timestamp_ms = _POSITION.unpack_from(value)
    return Position(offset, timestamp_ms, value[_POSITION.size :].decode())
