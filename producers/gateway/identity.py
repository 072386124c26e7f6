"""The development identity provider over HTTP: both steps of the original's token exchange.

Served only where `local_keys` is configured. The shapes are the original's: a form for the first
step, JSON for the second, `access_token` and `expires_in` in both answers.
"""

from typing import Any, Final
from urllib.parse import parse_qs

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from producers.gateway import strict_json
from producers.gateway.call import read_body, refuse
from producers.gateway.fields import text
from producers.gateway.problems import Problem, bad
from producers.gateway.state import Gateway
from producers.security.caller import Refused
from producers.security.issuer import LIFETIME_S

FORM_BYTES_MAX: Final = 32_768
ASSERTION_LENGTH_MAX: Final = 8_192
GRANT: Final = "client_credentials"
NO_STORE: Final = {"Cache-Control": "no-store"}


def routes(gateway: Gateway) -> list[BaseRoute]:
    """Routes of the identity provider; none in production."""
    issuer = gateway.issuer
    if issuer is None:
        return []

    async def key_set(_request: Request) -> Response:
        return _json(issuer.key_set, {})

    async def identity_token(request: Request) -> Response:
        try:
            form = _form(await read_body(request, FORM_BYTES_MAX))
            if form.get("grant_type") != GRANT:
                raise bad(f"grant_type: {GRANT} is expected")
            client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
            return _token(issuer.identity_token(client_id, secret))
        except Refused as refused:
            return refuse(gateway, request, str(refused)).response()
        except Problem as problem:
            return problem.response()

    async def exchange(request: Request) -> Response:
        try:
            body = strict_json.parse(await read_body(request, FORM_BYTES_MAX))
            assertion, context = _exchange_fields(strict_json.members_of(body))
            if context not in gateway.settings.environments:
                return Problem(401, "unauthenticated", "no such environment here").response()
            return _token(issuer.exchange(assertion, context))
        except Refused as refused:
            return refuse(gateway, request, str(refused)).response()
        except Problem as problem:
            return problem.response()

    return [
        Route("/.well-known/jwks.json", key_set, methods=["GET"]),
        Route("/{tenant}/oauth2/v2.0/token", identity_token, methods=["GET", "POST"]),
        Route("/token", exchange, methods=["POST"]),
    ]


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qs(body.decode("ascii"), strict_parsing=True, max_num_fields=16)
    except ValueError as error:
        raise bad("a form is expected: client_id, client_secret, grant_type, scope") from error
    return {name: values[-1] for name, values in pairs.items()}


def _exchange_fields(members: dict[str, Any]) -> tuple[str, str]:
    expected = {
        "grant_type": GRANT,
        "client_assertion_type": "aad_app",
        "context_type": "finops-env",
    }
    for name, value in expected.items():
        if members.get(name) != value:
            raise bad(f"{name}: {value} is expected")
    assertion = text(members, "client_assertion", ASSERTION_LENGTH_MAX)
    return assertion, text(members, "context", 128)


def _token(token: str) -> Response:
    body = {"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_S}
    return _json(body, NO_STORE)


def _json(body: Any, headers: dict[str, str]) -> Response:
    return Response(orjson.dumps(body), media_type="application/json", headers=headers)
