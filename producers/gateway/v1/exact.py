"""JSON of /v1: bodies into structs, structs into bodies, and no quantity through a float.

The rule: a body is taken whole or refused; a member that is not known is refused too, since a
typing error in `minimumQuantity` must not become a promise without one.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from starlette.responses import Response

from producers.gateway import fields, strict_json
from producers.gateway.call import Call
from producers.gateway.problems import PROBLEM_TYPE, Problem, bad
from producers.quantity import pieces_text

JSON: Final = "application/json"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
Read = TypeVar("Read")


class Quantity(int):
    """A quantity in 10^-6: a JSON number, or a text that holds one, with up to six decimals."""

    __slots__ = ()


def _from_json(kind: type, value: Any) -> Any:
    if kind is Quantity:
        return Quantity(fields.unscaled(value, "a quantity"))
    raise NotImplementedError(kind)


def _to_json(value: Any) -> Any:
    if isinstance(value, Quantity):
        return msgspec.Raw(pieces_text(value).encode())
    raise NotImplementedError(type(value))


_ENCODE: Final = msgspec.json.Encoder(enc_hook=_to_json).encode
_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def body_of(call: Call, kind: type[Read], *, optional: bool = False) -> Read:
    """Take the body as a `kind`; `optional`: no body at all says nothing.

    Raises:
        Problem: 400, it is not one; the detail says where.

    """
    if optional and not call.body:
        return msgspec.convert({}, kind)
    value = strict_json.members_of(call.json(lower=False))
    # Control characters come escaped (or as DEL), else the body is no JSON.
    if b"\\" in call.body or b"\x7f" in call.body:
        _refuse_control(value, "")
    return _convert(value, kind, strict=True)


def query_of(call: Call, kind: type[Read], deep: str = "") -> Read:
    """Take the query string as a `kind`; `deep` names a member written `name[key]=value`.

    Raises:
        Problem: 400, it is not one.

    """
    given: dict[str, Any] = {}
    within: dict[str, str] = {}
    for name, value in call.request.query_params.multi_items():
        if _CONTROL.search(name) or _CONTROL.search(value):
            raise bad("control characters are not accepted in a parameter")
        target, key = given, name
        if deep and name.startswith(f"{deep}[") and name.endswith("]"):
            target, key = within, name[len(deep) + 1 : -1]
        if key in target:
            raise bad(f"the parameter {name[:64]!r} is there twice")
        target[key] = value
    if within:
        given[deep] = within
    return _convert(given, kind, strict=False)


def _convert(value: Any, kind: type[Read], *, strict: bool) -> Read:
    try:
        return msgspec.convert(value, kind, strict=strict, dec_hook=_from_json)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, Problem):
            where = str(error).rpartition(" - at ")[2].strip("`")
            raise bad(f"{where}: {error.__cause__.detail}") from error
        raise bad(str(error)) from error


def _refuse_control(value: Any, where: str) -> None:
    if isinstance(value, str):
        if _CONTROL.search(value):
            raise bad(f"{where}: control characters are not accepted")
    elif isinstance(value, dict):
        for name, inner in value.items():
            if _CONTROL.search(name):
                raise bad(f"{where}: control characters are not accepted in a name")
            _refuse_control(inner, f"{where}.{name[:64]}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _refuse_control(inner, f"{where}[{index}]")


def encoded(body: Any) -> bytes:
    """Exact JSON of a struct or plain members."""
    return _ENCODE(body)


def answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with a body."""
    return Response(_ENCODE(body), status, dict(headers or {}), JSON)


def problem(refusal: Problem, body: Any) -> Response:
    """Refusal that also carries the members of a struct, so that it explains itself."""
    members = {**refusal.body(), **_MEMBERS(_ENCODE(body))}
    return Response(_ENCODE(members), refusal.status, refusal.headers, PROBLEM_TYPE)
