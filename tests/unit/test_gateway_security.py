"""Tokens, keys, limits and masks: what is not proven is refused, and no secret is written down."""

import asyncio
import base64
import contextlib
import http.client
import json
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from producers.logs import configure
from producers.security import keys as key_module
from producers.security.caller import Refused
from producers.security.issuer import ISSUER, Client, LocalIssuer
from producers.security.keys import KeySet, remote_keys
from producers.security.ratelimit import CLIENTS_MAX, RateLimit
from producers.security.redaction import MASK, in_text, redact
from producers.security.verify import REMEMBERED_S, Verifier

AUDIENCE = "holdfast"


class Clock:
    """A clock that is set by hand."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        """Seconds, as they were set."""
        return self.now_s


@pytest.fixture
def issuer(tmp_path: Path) -> LocalIssuer:
    """An identity provider of its own."""
    return LocalIssuer(tmp_path / "identity", audience=AUDIENCE)


@pytest.fixture
def verifier(issuer: LocalIssuer) -> Verifier:
    """Accepts that provider's tokens."""
    return Verifier(issuer.keys, issuer=ISSUER, audience=AUDIENCE)


def claims(**changes: Any) -> dict[str, Any]:
    """Claims of a good token, changed."""
    now_s = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop", "exp": now_s + 60, "scope": "read"}
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def signed(issuer: LocalIssuer, content: dict[str, Any], **header: Any) -> str:
    """Token of these claims under the provider's own key."""
    return jwt.encode(
        content,
        issuer._key,
        algorithm="ES256",
        headers={"kid": issuer.key_set["keys"][0]["kid"], **header},
    )


def unsigned(header: dict[str, Any], content: dict[str, Any], signature: bytes = b"") -> str:
    """Token put together by hand."""
    parts = [json.dumps(header).encode(), json.dumps(content).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


async def test_good_token_names_caller_scopes_and_environments(
    issuer: LocalIssuer, verifier: Verifier
) -> None:
    """A token of the provider says who asks, what it may do and where."""
    token = issuer.issue("shop", scopes=("read", "reserve"), environments=("default",))
    caller = await verifier.prove(token)
    assert caller.client_id == "shop"
    assert caller.may("reserve")
    assert not caller.may("admin")
    assert caller.environments == {"default"}


@pytest.mark.parametrize(
    "change",
    [
        {"exp": 1_000},
        {"exp": None},
        {"iss": "somebody"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"sub": None},
        {"nbf": 4_000_000_000},
        {"exp": "tomorrow"},
    ],
)
async def test_wrong_claims_are_refused(
    issuer: LocalIssuer, verifier: Verifier, change: dict[str, Any]
) -> None:
    """Ended, foreign, nameless and not yet valid tokens are refused although well signed."""
    with pytest.raises(Refused):
        await verifier.prove(signed(issuer, claims(**change)))


def forged(issuer: LocalIssuer) -> dict[str, str]:
    """Tokens that only look right, by what is wrong with them."""
    kid = issuer.key_set["keys"][0]["kid"]
    stranger = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    public = issuer._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    good = signed(issuer, claims())
    head, _, tail = good.rpartition(".")
    return {
        "alg none": unsigned({"alg": "none", "kid": kid}, claims()),
        "alg None": unsigned({"alg": "NonE", "kid": kid}, claims()),
        "alg missing": unsigned({"kid": kid}, claims()),
        "alg a list": unsigned({"alg": ["ES256"], "kid": kid}, claims()),
        "public key as secret": unsigned({"alg": "HS256", "kid": kid}, claims(), public),
        "rsa under the ec key's id": jwt.encode(
            claims(), stranger, algorithm="RS256", headers={"kid": kid}
        ),
        "unknown key": jwt.encode(claims(), stranger, algorithm="RS256", headers={"kid": "x"}),
        "no key id": unsigned({"alg": "ES256"}, claims(), b"x" * 64),
        "changed signature": f"{head}.{'A' * len(tail)}",
        "no signature": f"{head}.",
        "not a token": "x",
        "empty": "",
        "too long": good + "x" * 10_000,
    }


async def test_forged_tokens_are_refused(issuer: LocalIssuer, verifier: Verifier) -> None:
    """No algorithm, a symmetric one, another key or another signature gets nobody in."""
    accepted = []
    for what, token in forged(issuer).items():
        with contextlib.suppress(Refused):
            await verifier.prove(token)
            accepted.append(what)
    assert accepted == []


async def test_rotated_key_is_found_and_the_old_one_ends(tmp_path: Path) -> None:
    """After a rotation new tokens are accepted at once, and old ones end within a minute."""
    clock, wall = Clock(), Clock(time.time())
    issuer = LocalIssuer(tmp_path, audience=AUDIENCE)
    keys = KeySet((tmp_path / "jwks.json").read_bytes, clock=clock)
    verifier = Verifier(keys, issuer=ISSUER, audience=AUDIENCE, clock=wall)
    old = issuer.issue("shop", environments=("default",))
    await verifier.prove(old)
    issuer.rotate("RS256")
    clock.now_s += key_module.RENEW_MIN_S + 1
    await verifier.prove(issuer.issue("shop", environments=("default",)))
    wall.now_s += REMEMBERED_S + 1
    with pytest.raises(Refused):
        await verifier.prove(old)


@pytest.mark.parametrize("together", [False, True])
async def test_unknown_key_ids_do_not_hammer_the_provider(
    issuer: LocalIssuer, together: bool
) -> None:
    """A thousand forged key ids cause one look at the provider, one by one and all at once."""
    asked: list[int] = []

    def read() -> bytes:
        asked.append(1)
        return json.dumps(issuer.key_set).encode()

    keys = KeySet(read, clock=Clock(1.0))
    names = [f"forged-{number}" for number in range(1_000)]
    for some in [names] if together else [[name] for name in names]:
        found = await asyncio.gather(*map(keys.key, some), return_exceptions=True)
        assert all(isinstance(one, Refused) for one in found)
    assert len(asked) == 1


async def test_provider_that_is_down_is_survived_for_a_day(issuer: LocalIssuer) -> None:
    """Known keys are good while the provider is away; unknown ones are `unavailable`, not `no`."""
    clock, up = Clock(1.0), [True]

    def read() -> bytes:
        if not up[0]:
            raise OSError("no route")
        return json.dumps(issuer.key_set).encode()

    keys = KeySet(read, clock=clock)
    kid = issuer.key_set["keys"][0]["kid"]
    await keys.key(kid)
    up[0] = False
    clock.now_s += 3_600
    await keys.key(kid)
    clock.now_s += key_module.RENEW_MIN_S + 1
    with pytest.raises(Refused) as unknown:
        await keys.key("other")
    assert unknown.value.unavailable
    clock.now_s += key_module.STALE_MAX_S
    with pytest.raises(Refused) as stale:
        await keys.key(kid)
    assert stale.value.unavailable


async def test_a_slow_provider_keeps_no_known_key_waiting(issuer: LocalIssuer) -> None:
    """What is known is good meanwhile, and renewed beside; the next to ask has what was read."""
    clock, answers = Clock(1.0), threading.Event()
    documents = [b'{"keys": []}', json.dumps(issuer.key_set).encode()]

    def read() -> bytes:
        if len(documents) == 1:
            answers.wait(10)
        return documents.pop()

    keys = KeySet(read, clock=clock)
    kid = issuer.key_set["keys"][0]["kid"]
    await keys.key(kid)
    clock.now_s += key_module.RENEW_S + 1
    for _ in range(3):
        await asyncio.wait_for(keys.key(kid), 5)
    answers.set()
    with pytest.raises(Refused):
        await keys.key("unknown")  # Waits for the one under way.
    with pytest.raises(Refused):
        await keys.key(kid)


async def test_a_provider_that_answers_nonsense_is_unavailable() -> None:
    """What is no HTTP is no verdict on the token."""

    def read() -> bytes:
        raise http.client.BadStatusLine("SSH-2.0")

    with pytest.raises(Refused) as refused:
        await KeySet(read, clock=Clock(1.0)).key("x")
    assert refused.value.unavailable


@pytest.mark.parametrize("document", [b"", b"[]", b'{"keys": 3}', b'{"keys": [{"kty": "oct"}]}'])
async def test_strange_key_sets_hold_no_key(document: bytes) -> None:
    """A key set that is none, or that holds a symmetric key, accepts nothing."""
    with pytest.raises(Refused):
        await KeySet(lambda: document, clock=Clock(1.0)).key("x")


def test_keys_come_by_https() -> None:
    """An address on which anybody could answer is refused at start."""
    with pytest.raises(ValueError, match="https"):
        remote_keys("http://identity.example/keys")
    with pytest.raises(ValueError, match="https"):
        remote_keys("file:///etc/passwd")
    for elsewhere in ("http://localhost.evil.example/keys", "http://127.0.0.1@evil.example/keys"):
        with pytest.raises(ValueError, match="https"):
            remote_keys(elsewhere)
    remote_keys("http://127.0.0.1:8080/keys")


def test_two_steps_give_a_token(issuer: LocalIssuer) -> None:
    """Client and secret give an identity token; that and an environment the access token."""
    client_id, secret = issuer.development_client()
    assert issuer.development_client() == (client_id, secret)
    identity = issuer.identity_token(client_id, secret)
    content = jwt.decode(issuer.exchange(identity, "default"), options={"verify_signature": False})
    assert content["environment"] == ["default"]
    with pytest.raises(Refused):
        issuer.identity_token(client_id, "guess")
    with pytest.raises(Refused):
        issuer.identity_token("nobody", secret)
    with pytest.raises(Refused):
        issuer.exchange(issuer.issue(client_id, environments=("default",)), "default")
    issuer.add_client("narrow", Client(secret="s", environments=("one",)))
    with pytest.raises(Refused):
        issuer.exchange(issuer.identity_token("narrow", "s"), "two")


async def test_identity_token_is_no_access_token(issuer: LocalIssuer, verifier: Verifier) -> None:
    """The first step's token alone gets nobody in, as in the original."""
    client_id, secret = issuer.development_client()
    with pytest.raises(Refused):
        await verifier.prove(issuer.identity_token(client_id, secret))


def test_secrets_on_disk_are_the_owners(tmp_path: Path, issuer: LocalIssuer) -> None:
    """Signing key and clients' secrets can be read by nobody else."""
    issuer.development_client()
    for name in ("signing-key.pem", "clients.json"):
        assert (tmp_path / "identity" / name).stat().st_mode & 0o077 == 0


def test_bucket_lets_a_burst_through_then_the_rate() -> None:
    """Five at once, then two a second; and the wait that is told is the true one."""
    clock = Clock()
    limit = RateLimit(2.0, 5, clock=clock)
    assert [limit.wait_s("a") for _ in range(5)] == [0.0] * 5
    wait_s = limit.wait_s("a")
    assert wait_s == pytest.approx(0.5)
    assert limit.wait_s("b") == 0.0
    clock.now_s += wait_s
    assert limit.wait_s("a") == 0.0
    assert limit.wait_s("a") > 0.0
    clock.now_s += 3_600  # However long a client was silent, it has one burst.
    assert [limit.wait_s("a") > 0 for _ in range(6)] == [False] * 5 + [True]


def test_clients_remembered_are_bounded() -> None:
    """A flood of client names does not grow memory."""
    limit = RateLimit(1.0, 1, clock=Clock())
    for number in range(CLIENTS_MAX + 100):
        limit.wait_s(f"client-{number}")
    assert len(limit._buckets) == CLIENTS_MAX


@pytest.mark.parametrize(
    "event",
    [
        {"event": "x", "authorization": "Bearer hunter2"},
        {"event": "x", "settings": {"sasl_password": "hunter2", "user": "u"}},
        {"event": "x", "clients": [{"client_secret": "hunter2"}]},
        {"event": "cannot reach redis://user:hunter2@cache:6379/0"},
        {"event": "sent Authorization: Bearer hunter2"},
        {"event": "form client_secret=hunter2&grant_type=x"},
        {"event": "x", "error": ValueError("rediss://:hunter2@cache")},
        {"event": "x", "body": b"password=hunter2"},
    ],
)
def test_secrets_are_masked_in_logs(event: dict[str, Any]) -> None:
    """A secret is masked by the name of its field, and in running text."""
    line = repr(redact(None, "", event))
    assert "hunter2" not in line
    assert MASK in line


def test_tokens_are_masked_in_logs(issuer: LocalIssuer) -> None:
    """A token is masked wherever it stands; what is no secret stays readable."""
    token = issuer.issue("shop", environments=("default",))
    assert token not in in_text(f"refused {token} of shop")
    assert in_text("partition 3 of reservation-requests") == "partition 3 of reservation-requests"


def test_configured_logs_mask_other_libraries(
    issuer: LocalIssuer, capsys: pytest.CaptureFixture[str], restore_logs: Callable[[], None]
) -> None:
    """What a library logs, exceptions too, goes through the same mask."""
    token = issuer.issue("shop", environments=("default",))
    configure("json")
    try:
        int(token)  # Its error quotes the token.
    except ValueError:
        logging.getLogger("library").exception("with %s", token)
        structlog.get_logger("ours").exception("failed", token=token)
    written = capsys.readouterr().err
    assert "failed" in written
    assert "invalid literal" in written
    assert token not in written


@pytest.fixture
def restore_logs() -> Any:
    """Put logging back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield None
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
