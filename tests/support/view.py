"""What the read view keeps in Redis, read out whole, so that two copies can be compared."""

from typing import Any

from processor.view.keys import GenerationKeys, Names

UNLIKE = (b"health", b"l:", b"cv", b"topic")  # Differ between two right copies of the same log.


def content(client: Any, prefix: str, generation: bytes) -> dict[bytes, object]:
    """Every key of a generation and what is under it, but what two right copies differ in."""
    keys = Names(prefix).generation(generation)
    return {
        end: _value(client, keys.prefix + end)
        for end in _ends(client, keys)
        if not end.startswith(UNLIKE)
    }


def _ends(client: Any, keys: GenerationKeys) -> list[bytes]:
    found = client.scan_iter(match=keys.prefix + b"*", count=1_000)
    return sorted({key[len(keys.prefix) :] for key in found})


def _value(client: Any, key: bytes) -> object:
    kind = client.type(key)
    if kind == b"hash":
        return client.hgetall(key)
    if kind == b"zset":
        return client.zrange(key, 0, -1)
    if kind == b"set":
        return client.smembers(key)
    return client.get(key)
