"""The loads: which stock there is, and who asks for how much of it, the same on every run.

A `Work` is plain numbers (leaf index, quantity in pieces), so that every contestant can be given
the same requests in its own form, and the check can replay them without the contestants' code.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Final, NamedTuple

from schemas import partitioning

ORGANIZATION: Final = "usmf"
COLOURS: Final = ("black", "blue", "green", "red")
LOCATIONS: Final = 16
PRODUCTS: Final = 1_000
SEED: Final = 20_260_801
ZIPF_EXPONENT: Final = 1.1
PIECES: Final = (1, 2, 3)  # Of one request.


class Leaf(NamedTuple):
    """One stock key: a product and colour at a warehouse, and the partition that owns it."""

    product: str
    site: str
    location: str
    colour: str
    partition: int

    @property
    def key(self) -> bytes:
        """Record key of everything about it."""
        return partitioning.location_key(ORGANIZATION, self.site, self.location)

    @property
    def dimensions(self) -> dict[str, str]:
        """Four values, so that the check climbs the three levels of the default hierarchy."""
        return {
            "siteid": self.site,
            "locationid": self.location,
            "colorid": self.colour,
            "sizeid": "M",
        }


class Ask(NamedTuple):
    """One request of one line: its id, the index of its leaf, pieces."""

    request_id: str
    leaf: int
    quantity: int


class Work(NamedTuple):
    """One load. `supply` is in pieces, on every leaf."""

    name: str
    partitions: int
    leaves: Sequence[Leaf]
    supply: int
    asks: Sequence[Ask]


def leaves(partitions: int, *, locations: int = LOCATIONS, products: int = PRODUCTS) -> list[Leaf]:
    """Locations x products x 4 colours, the locations spread evenly over the partitions.

    Warehouse numbers are tried in order and taken where their partition has room: 16 hashes over 4
    partitions would otherwise be uneven, and a figure would depend on that luck.
    """
    room = dict.fromkeys(range(partitions), -(-locations // partitions))
    warehouses: list[tuple[str, int]] = []
    for number in range(1, 100 * max(locations, partitions)):
        if len(warehouses) == locations:
            break
        partition = partitioning.partition_of(
            partitioning.location_key(ORGANIZATION, "1", str(number)), partitions
        )
        if room[partition]:
            room[partition] -= 1
            warehouses.append((str(number), partition))
    return [
        Leaf(f"D{product:04}", "1", warehouse, colour, partition)
        for warehouse, partition in warehouses
        for product in range(products)
        for colour in COLOURS
    ]


def _uniform(requests: int, among: int, chance: random.Random) -> list[int]:
    return chance.choices(range(among), k=requests)


def _zipf(requests: int, among: int, chance: random.Random) -> list[int]:
    """Leaf of rank r with a weight of r ** -ZIPF_EXPONENT; ranks are dealt to leaves by chance."""
    ranked = list(range(among))
    chance.shuffle(ranked)
    weights = list(accumulate((rank + 1) ** -ZIPF_EXPONENT for rank in range(among)))
    return chance.choices(ranked, cum_weights=weights, k=requests)


def _asks(name: str, chosen: Sequence[int], chance: random.Random) -> list[Ask]:
    pieces = chance.choices(PIECES, k=len(chosen))
    return [
        Ask(f"{name}-{index:08}", leaf, quantity)
        for index, (leaf, quantity) in enumerate(zip(chosen, pieces, strict=True))
    ]


def _catalogue(requests: int, partitions: int) -> list[Leaf]:
    """All 64,000 leaves; fewer products when there are not even as many requests as leaves."""
    products = max(1, min(PRODUCTS, requests // (LOCATIONS * len(COLOURS))))
    return leaves(partitions, locations=max(LOCATIONS, partitions), products=products)


def spread(requests: int, partitions: int) -> Work:
    """Uniform over 16 locations x 1,000 products x 4 colours, 1 to 3 pieces, all of it in stock."""
    chance = random.Random(SEED)
    stock = _catalogue(requests, partitions)
    return Work(
        "spread",
        partitions,
        stock,
        3 * requests,
        _asks("spread", _uniform(requests, len(stock), chance), chance),
    )


def hot(requests: int, partitions: int) -> Work:
    """Everybody wants the same leaf."""
    chance = random.Random(SEED)
    stock = leaves(partitions, locations=1, products=1)[:1]
    return Work("hot", partitions, stock, 3 * requests, _asks("hot", [0] * requests, chance))


def zipf(requests: int, partitions: int) -> Work:
    """As spread, but few leaves are wanted by many."""
    chance = random.Random(SEED)
    stock = _catalogue(requests, partitions)
    return Work(
        "zipf",
        partitions,
        stock,
        3 * requests,
        _asks("zipf", _zipf(requests, len(stock), chance), chance),
    )


def reject(requests: int, partitions: int) -> Work:
    """Stock for about a tenth of what is asked: most are refused, after the stock ran out."""
    chance = random.Random(SEED)
    products = max(1, requests // (40 * LOCATIONS * len(COLOURS)))
    stock = leaves(partitions, locations=max(LOCATIONS, partitions), products=products)
    supply = max(1, 2 * requests // (10 * len(stock)))
    return Work(
        "reject",
        partitions,
        stock,
        supply,
        _asks("reject", _uniform(requests, len(stock), chance), chance),
    )


PROFILES: Final[Mapping[str, Callable[[int, int], Work]]] = MappingProxyType(
    {"spread": spread, "hot": hot, "zipf": zipf, "reject": reject}
)
