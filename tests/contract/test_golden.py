"""The bytes that earlier versions wrote stay readable, and today's encoding does not drift."""

from typing import Any

import pytest

from schemas import avro
from schemas.codec import Codec
from schemas.registry import FixedSchemaIds
from tests.contract import golden, samples

FOREIGN_ID = 4_711
FRAME = b"\x00" + FOREIGN_ID.to_bytes(4, "big")
ALL = [version for record in avro.RECORDS for version in golden.recorded(record)]


def _name(version: golden.Golden) -> str:
    return f"{version.record}-{version.version}"


def _includes(found: Any, recorded: Any) -> bool:
    """Whether everything recorded is found; later versions may have more fields, at any depth."""
    if isinstance(recorded, dict):
        return all(n in found and _includes(found[n], part) for n, part in recorded.items())
    if isinstance(recorded, list):
        return len(found) == len(recorded) and all(map(_includes, found, recorded))
    return bool(found == recorded)


@pytest.mark.parametrize("record", avro.RECORDS)
def test_the_last_recorded_version_is_the_schema_of_today(record: str) -> None:
    """A changed schema has its golden bytes (run `python -m tests.contract.golden` once)."""
    last = golden.recorded(record)[-1]
    assert golden.undocumented(last.schema) == golden.undocumented(avro.schema(record))


@pytest.mark.parametrize("record", avro.RECORDS)
def test_todays_encoding_is_the_recorded_one(record: str) -> None:
    """The chosen records encode to the very bytes of the last recorded version."""
    last = golden.recorded(record)[-1]
    bodies = [golden.body_of(record, struct).hex() for struct in samples.chosen()[record]]
    assert bodies == [example.body for example in last.examples]


@pytest.mark.parametrize("version", ALL, ids=_name)
def test_every_recorded_body_still_decodes_to_its_fields(version: golden.Golden) -> None:
    """Bytes of any version, with the id of a foreign writer, read as the fields they hold."""
    codec = Codec(FixedSchemaIds({FOREIGN_ID: version.schema}))
    decode = golden.decoders(codec)[version.record]
    for example in version.examples:
        found = golden.readable(samples.fields_of(decode(FRAME + bytes.fromhex(example.body))))
        assert _includes(found, example.fields)
