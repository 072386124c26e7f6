"""The rights of docs/security.md as the broker takes them, so that page and tests cannot differ.

Each row of the page's table is what one program may do with one resource, or with several of a kind
alike. A name that ends with * is a prefix.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from schemas import cluster

PAGE: Final = Path(__file__).parents[2] / "docs" / "security.md"
HEADING: Final = "| program | resource | name | operations | why |"
# As kafka-acls names them, to as the client library does.
KINDS: Final = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional-id": ResourceType.TRANSACTIONAL_ID,
}
OPERATIONS: Final = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


class Right(NamedTuple):
    """What a program may do with one resource, or with all whose names begin alike."""

    program: str
    kind: str
    name: str
    operations: tuple[str, ...]

    def bindings(self, user: str) -> Iterator[AclBinding]:
        """The entries of the broker's list that give it to a user."""
        by = ResourcePatternType.LITERAL
        if self.name.endswith("*"):
            by = ResourcePatternType.PREFIXED
        for operation in self.operations:
            yield AclBinding(
                KINDS[self.kind],
                self.name.removesuffix("*"),
                by,
                f"User:{user}",
                "*",
                OPERATIONS[operation],
                AclPermissionType.ALLOW,
            )


def documented() -> list[Right]:
    """The rows of the page's table, one for each name."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[lines.index(HEADING) + 2 :])
    found: list[Right] = []
    for row in rows:
        program, kind, names, operations, _ = (cell.strip() for cell in row.strip("|").split("|"))
        allowed = tuple(operations.split(", "))
        found += [Right(program, kind, name.strip("` "), allowed) for name in names.split(",")]
    return found


def rights_of(program: str) -> list[Right]:
    """The rows of one program."""
    return [right for right in documented() if right.program == program]


def grant(admin: AdminClient, user: str, rights: Sequence[Right]) -> None:
    """Give a user rights; returns once the broker has taken them."""
    bindings = [binding for right in rights for binding in right.bindings(user)]
    for future in admin.create_acls(bindings).values():
        future.result(cluster.ANSWER_WITHIN_S)
