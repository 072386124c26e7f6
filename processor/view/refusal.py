"""Why Redis does not let the view in, said so that somebody can act on it; no secret is quoted."""

from typing import Final

from redis.exceptions import AuthenticationError, NoPermissionError

_LOGIN: Final = (
    "redis refuses the login: check REDIS_USERNAME and REDIS_PASSWORD, or those in REDIS_URL"
)
_PERMISSION: Final = (
    "redis does not allow its user enough: it needs the keys of HOLDFAST_VIEW_PREFIX (~holdfast:*) "
    "and +@all -@dangerous"
)
_UNTRUSTED: Final = (
    "redis's certificate is not trusted: name the authority (PEM) that issued it in REDIS_URL, as "
    "rediss://cache:6380/0?ssl_ca_certs=/etc/ca.pem, and the host as the certificate does"
)
_NEEDS_LOGIN: Final = ("NOAUTH", "WRONGPASS", "Authentication required")


def in_words(error: Exception) -> str:
    """What redis-py's error means, and what to do where it is a refusal."""
    text = str(error)
    if isinstance(error, AuthenticationError) or any(mark in text for mark in _NEEDS_LOGIN):
        return f"{_LOGIN} ({text})"
    if isinstance(error, NoPermissionError):
        return f"{_PERMISSION} ({text})"
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"{_UNTRUSTED} ({text})"
    return f"redis does not answer: {text}"
