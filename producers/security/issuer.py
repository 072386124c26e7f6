"""A development identity provider: keys in a folder, clients in a file, tokens of the same shape.

It plays both steps of the original: a client credential gives an identity token, and that, with an
environment as context, gives the access token. For local stacks and tests only: whoever can read
the folder can be anybody.
"""

import hmac
import json
import os
import secrets
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from producers.security.caller import SCOPES, Refused
from producers.security.keys import KeySet, local_keys

ISSUER: Final = "urn:holdfast:development"
IDENTITY_AUDIENCE: Final = "urn:holdfast:identity"
LIFETIME_S: Final = 3_600
DEVELOPMENT_CLIENT: Final = "development"
_KEY_FILE: Final = "signing-key.pem"
_KEY_SET_FILE: Final = "jwks.json"
_CLIENTS_FILE: Final = "clients.json"


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """An application that may ask for tokens."""

    secret: str
    scopes: tuple[str, ...] = SCOPES
    environments: tuple[str, ...] = ()


class LocalIssuer:
    """Gives out tokens signed with the folder's key; makes folder, key and client if need be."""

    def __init__(self, folder: Path, *, audience: str, algorithm: str = "ES256") -> None:
        self._folder = folder
        self._audience = audience
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not (folder / _KEY_FILE).exists():
            self._make_key(algorithm)
        pem = (folder / _KEY_FILE).read_bytes()
        loaded = load_pem_private_key(pem, None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
            raise TypeError(f"{folder / _KEY_FILE}: an EC or RSA key is needed")
        self._key = loaded
        self._published = json.loads((folder / _KEY_SET_FILE).read_text())["keys"][0]

    @property
    def keys(self) -> KeySet:
        """The public keys, to verify by."""
        return local_keys(self._folder / _KEY_SET_FILE)

    @property
    def key_set(self) -> dict[str, Any]:
        """The public keys as they are published."""
        return {"keys": [self._published]}

    def rotate(self, algorithm: str = "ES256") -> None:
        """Sign with a new key; tokens of the old one are no longer accepted."""
        (self._folder / _KEY_FILE).unlink()
        self._make_key(algorithm)

    def issue(
        self,
        client_id: str,
        *,
        scopes: Iterable[str] = SCOPES,
        environments: Iterable[str],
        lifetime_s: int = LIFETIME_S,
    ) -> str:
        """Access token."""
        claims = {"scope": " ".join(scopes), "environment": list(environments)}
        return self._signed(client_id, self._audience, claims, lifetime_s)

    def identity_token(self, client_id: str, secret: str) -> str:
        """First step: an identity token for a client and its secret.

        Raises:
            Refused: no such client, or another secret.

        """
        known = self._clients().get(client_id)
        given = secret.encode()
        expected = known.secret.encode() if known else secrets.token_bytes(32)
        if not hmac.compare_digest(expected, given) or known is None:
            raise Refused("no such client, or another secret")
        return self._signed(client_id, IDENTITY_AUDIENCE, {}, LIFETIME_S)

    def exchange(self, identity_token: str, environment: str) -> str:
        """Second step: an access token for an identity token and an environment.

        Raises:
            Refused: the token is not one of the first step, or the client has no part in the
                environment.

        """
        try:
            claims = jwt.decode(
                identity_token,
                self._key.public_key(),
                algorithms=[self._published["alg"]],
                audience=IDENTITY_AUDIENCE,
                issuer=ISSUER,
            )
        except jwt.PyJWTError as error:
            raise Refused("the assertion is not accepted") from error
        known = self._clients().get(claims["sub"])
        if known is None or (known.environments and environment not in known.environments):
            raise Refused("the client has no part in this environment")
        return self.issue(claims["sub"], scopes=known.scopes, environments=[environment])

    def add_client(self, client_id: str, client: Client) -> None:
        """Let a client ask for tokens, or change what it may."""
        self._write(
            _CLIENTS_FILE, msgspec.json.encode({**self._clients(), client_id: client}), mode=0o600
        )

    def development_client(self) -> tuple[str, str]:
        """Id and secret of a client that may do everything; made at the first call."""
        known = self._clients().get(DEVELOPMENT_CLIENT)
        if known is None:
            known = Client(secret=secrets.token_urlsafe(32))
            self.add_client(DEVELOPMENT_CLIENT, known)
        return DEVELOPMENT_CLIENT, known.secret

    def _clients(self) -> Mapping[str, Client]:
        try:
            text = (self._folder / _CLIENTS_FILE).read_bytes()
        except FileNotFoundError:
            return {}
        return msgspec.json.decode(text, type=dict[str, Client])

    def _signed(
        self, client_id: str, audience: str, claims: Mapping[str, Any], lifetime_s: int
    ) -> str:
        now_s = int(time.time())
        content = {
            "iss": ISSUER,
            "sub": client_id,
            "aud": audience,
            "iat": now_s,
            "exp": now_s + lifetime_s,
            "jti": secrets.token_urlsafe(12),
            **claims,
        }
        return jwt.encode(
            content,
            self._key,
            algorithm=self._published["alg"],
            headers={"kid": self._published["kid"]},
        )

    def _make_key(self, algorithm: str) -> None:
        key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
        if algorithm == "ES256":
            key = ec.generate_private_key(ec.SECP256R1())
            entry = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        else:
            key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
            entry = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
        entry.pop("key_ops", None)
        published = {**entry, "kid": secrets.token_hex(8), "alg": algorithm, "use": "sig"}
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._write(_KEY_SET_FILE, json.dumps({"keys": [published]}).encode(), mode=0o644)
        self._write(_KEY_FILE, pem, mode=0o600)
        self._published, self._key = published, key

    def _write(self, name: str, content: bytes, *, mode: int) -> None:
        """Whole or not at all, and never readable by others for a moment."""
        new = self._folder / f"{name}.{os.getpid()}.new"
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        new.replace(self._folder / name)
