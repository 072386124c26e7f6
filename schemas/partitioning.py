"""Which partition a record belongs to: the unit of ownership and of atomicity.

Keys are plain UTF-8 text and are hashed with murmur2, as Java, aiokafka and Faust do; librdkafka
producers must be given `partitioner=murmur2_random`. A producer that hashes otherwise would give
the same stock two owners, so the worker recomputes the partition of every record and refuses a
misrouted one.
"""

from aiokafka.partitioner import murmur2

SEPARATOR = "|"


def location_key(organization_id: str, site_id: str, location_id: str) -> bytes:
    """Key of the partition rule by location: `organization|site|location`."""
    return f"{organization_id}|{site_id}|{location_id}".encode()


def partition_of(key: bytes, partitions: int) -> int:
    """Partition of `key` among `partitions`, as Java's default partitioner chooses it."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def product_key(organization_id: str, product_id: str) -> bytes:
    """Key of the partition rule by product: `organization|product`."""
    return f"{organization_id}|{product_id}".encode()


def bucket_key(
    organization_id: str, site_id: str, location_id: str, product_id: str, *, buckets: int
) -> bytes:
    """Key of the rule by location and product: `organization|site|location|bucket`.

    The bucket is the product's own murmur2 modulo `buckets`, as a number in base 10: it spreads
    one huge warehouse over partitions and keeps a product in one of them.
    """
    bucket = partition_of(product_id.encode(), buckets)
    return f"{organization_id}|{site_id}|{location_id}|{bucket}".encode()
