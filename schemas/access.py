"""Why a broker does not let a client in, or to what it needs, said so that somebody can act on it.

The clients' own errors say "timed out" or "transport failure" for a wrong password and for a
certificate that is not trusted: what the broker refuses they tell only by callback. So who could
not reach the brokers asks here once more, listens to the callback, and quotes what is found.
The rule: names of settings, never their values.
"""

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

WITHIN_S: Final = 5.0  # A refusal is told at the first attempt, in the time of a handshake.
POLL_S: Final = 0.1

READ: Final = frozenset({AclOperation.READ})
WRITE: Final = frozenset({AclOperation.WRITE})
Rights = Mapping[str, frozenset[AclOperation]]  # Of a topic or a group: what is to be done with it.

# The names that librdkafka gives to them have an underscore in front.
_LOGIN_FAILED: Final = KafkaError._AUTHENTICATION  # noqa: SLF001
_TLS_FAILED: Final = KafkaError._SSL  # noqa: SLF001
_ALL_DOWN: Final = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001

_NOT_ALLOWED: Final = frozenset(
    {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}
)

_LOGIN: Final = (
    "the broker refuses the login: check KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD, and that "
    "KAFKA_SASL_MECHANISM is one that it offers"
)
_UNTRUSTED: Final = (
    "the broker's certificate is not trusted: set KAFKA_SSL_CAFILE to the authority (PEM) that "
    "issued it, and name the broker in KAFKA_BOOTSTRAP_SERVERS as the certificate does"
)
_TLS: Final = (
    "no TLS connection comes about: check that KAFKA_SECURITY_PROTOCOL is the listener's, and "
    "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE, should the broker ask for a certificate"
)
_HUNG_UP: Final = (
    "the broker takes the connection and hangs up: check that KAFKA_SECURITY_PROTOCOL is the one "
    "of the listener"
)


def refusal(settings: Mapping[str, Any]) -> str:
    """What keeps this client out, and what to do about it; "" when it is not refused.

    Also "" when nobody is there, which the clients say well enough themselves. `settings` are
    librdkafka's. Waits for `WITHIN_S` at most.
    """
    errors: list[KafkaError] = []
    try:
        # Level 0: what it would log is said here, once.
        client = AdminClient({**settings, "log_level": 0, "error_cb": errors.append})
    except KafkaException as error:  # A file that holds no certificate, or no key to it.
        return f"the settings of Kafka's clients are refused: {error.args[0].str()}"
    until = time.monotonic() + WITHIN_S
    while time.monotonic() < until:
        try:
            client.list_topics(timeout=POLL_S)
        except KafkaException:
            client.poll(POLL_S)
        else:
            return ""
        found = next(filter(None, map(_words, errors)), "")
        if found or any(error.code() == _ALL_DOWN for error in errors):
            # Everybody is down, and no error says why: they were there, and hung up.
            return found or ("" if errors[0].code() != _ALL_DOWN else _HUNG_UP)
    return ""


def lacking(settings: Mapping[str, Any], *, of_topics: Rights, of_groups: Rights) -> str:
    """Which of these rights the broker does not give this client; "" when it gives all.

    Also "" where that cannot be found out: nobody answers, or the topics are not there. Some of
    what is refused later is told by no error, or by one that looks as if trying again might help;
    so it is asked for beforehand (KIP-430). Waits for `WITHIN_S` at most for each kind.
    """
    admin = AdminClient({**settings, "log_level": 0})
    topics = admin.describe_topics(
        TopicCollection(list(of_topics)),
        include_authorized_operations=True,
        request_timeout=WITHIN_S,
    )
    groups = admin.describe_consumer_groups(
        list(of_groups), include_authorized_operations=True, request_timeout=WITHIN_S
    )
    missing = [
        *_missing("topic", topics, of_topics),
        *_missing("group", groups, of_groups),
    ]
    told = "; ".join(missing)
    return f"the broker does not allow this user enough: {told} (docs/security.md)" if told else ""


def _missing(kind: str, described: Mapping[str, Future[Any]], rights: Rights) -> Iterator[str]:
    for name, wanted in rights.items():
        try:
            allowed = frozenset(described[name].result(WITHIN_S).authorized_operations or wanted)
        except KafkaException as error:
            if error.args[0].code() not in _NOT_ALLOWED:
                continue
            allowed = frozenset()
        lacks = sorted(operation.name.capitalize() for operation in wanted - allowed)
        if lacks:
            yield f"{', '.join(lacks)} on {kind} {name}"


def _words(error: KafkaError) -> str:
    """What one error means, if it is a refusal."""
    text = error.str()
    if error.code() == _LOGIN_FAILED:
        return f"{_LOGIN} ({text})"
    # Now and then a failed handshake comes under the code of a lost connection.
    if "certificate verify failed" in text:
        return f"{_UNTRUSTED} ({text})"
    if error.code() == _TLS_FAILED or "in state SSL_HANDSHAKE" in text:
        return f"{_TLS} ({text})"
    return ""
