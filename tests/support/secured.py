"""A broker and a Redis as production has them: TLS, and nobody without a user and a password.

The distribution is that of the local stack, always as processes of the test's own: the session's
servers are shared, and stay open to everybody. The broker listens three times: for clients with a
user (SASL_SSL), for clients with a certificate (SSL), and for its operator, who makes the user, on
a port that no client under test is told. Where programs get users of their own, the broker also
lets each do only what it is granted, all others nothing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from compose.kafka_server import KafkaServer
from compose.ports import LOOPBACK, free_port
from compose.process import LocalServer
from compose.progress import silent
from compose.redis_server import RedisServer
from compose.settings import Settings
from schemas import cluster
from tests.support.certificate import certificate

USER: Final = "holdfast-user"
PASSWORD: Final = "kafka-hunter2"
REDIS_USER: Final = "holdfast-view"
REDIS_PASSWORD: Final = "redis-hunter2"
SCRAM_ITERATIONS: Final = 4096
PARTITIONS: Final = 2

_BROKER: Final = """
listeners={clients},CONTROLLER://{host}:{controller}
advertised.listeners={clients}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SECURED:SASL_SSL,MUTUAL:SSL,CONTROLLER:PLAINTEXT
listener.name.mutual.ssl.client.auth=required
controller.quorum.voters=1@{host}:{controller}
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.secured.scram-sha-512.sasl.jaas.config={scram} required;
listener.name.secured.plain.sasl.jaas.config={plain} required user_{user}="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
"""
_AUTHORIZER: Final = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
"""  # Nobody's name: the controller, and the operator on the port of its own.
_SCRAM: Final = "org.apache.kafka.common.security.scram.ScramLoginModule"
_PLAIN: Final = "org.apache.kafka.common.security.plain.PlainLoginModule"


class Secured(msgspec.Struct, frozen=True, kw_only=True):
    """Two secured servers, and what a client must be told of them.

    Attributes:
        environment: what a client is told that has a user.
        mutual: what is told otherwise to one that has a certificate.

    """

    kafka: LocalServer
    redis: LocalServer
    environment: dict[str, str]
    mutual: dict[str, str]

    def environment_of(self, user: str) -> dict[str, str]:
        """What a client is told that has another user."""
        return {**self.environment, "KAFKA_SASL_USERNAME": user}

    def operator(self) -> AdminClient:
        """Somebody who may do everything."""
        return AdminClient({"bootstrap.servers": self.kafka.address, "log_level": 0})

    def stop(self) -> None:
        """Stop both, and delete what they kept."""
        self.redis.delete()
        self.kafka.delete()


def start(settings: Settings, folder: Path, *, granted: Sequence[str] = ()) -> Secured:
    """Start both, and make the broker's user; those who may do what they are `granted` besides."""
    trusted, key = certificate(folder)
    ports = {name: free_port() for name in ("secured", "mutual", "controller")}
    rules = _AUTHORIZER if granted else ""
    kafka = _kafka(settings, folder, trusted, key, ports, rules=rules)
    redis = _redis(settings, folder, trusted, key)
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{ports['secured']}",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": USER,
        "KAFKA_SASL_PASSWORD": PASSWORD,
        "KAFKA_SSL_CAFILE": str(trusted),
        "REDIS_URL": f"{redis.address}?ssl_ca_certs={trusted}",
        "REDIS_USERNAME": REDIS_USER,
        "REDIS_PASSWORD": REDIS_PASSWORD,
    }
    mutual = {
        "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{ports['mutual']}",
        "KAFKA_SECURITY_PROTOCOL": "SSL",
        "KAFKA_SSL_CERTFILE": str(trusted),
        "KAFKA_SSL_KEYFILE": str(key),
    }
    started = Secured(kafka=kafka, redis=redis, environment=environment, mutual=mutual)
    try:
        redis.start()  # First: while a broker starts, somebody else may be given its port.
        kafka.start()
        _make_users(started.operator(), (USER, *granted))
    except BaseException:
        started.stop()
        raise
    return started


def _kafka(
    settings: Settings, folder: Path, chain: Path, key: Path, ports: dict[str, int], *, rules: str
) -> LocalServer:
    """The broker, formatted as the local stack's, with listeners and rules of its own."""
    launch = KafkaServer.install(settings, silent).launch(folder / "kafka", port=None)
    keystore = folder / "keystore.pem"
    keystore.write_bytes(key.read_bytes() + chain.read_bytes())
    clients = {"PLAINTEXT": launch.port, "SECURED": ports["secured"], "MUTUAL": ports["mutual"]}
    own = _BROKER.format(
        host=LOOPBACK,
        clients=",".join(f"{name}://{LOOPBACK}:{port}" for name, port in clients.items()),
        controller=ports["controller"],
        scram=_SCRAM,
        plain=_PLAIN,
        user=USER,
        password=PASSWORD,
        keystore=keystore,
        truststore=chain,
    )
    written = Path(launch.directory) / "server.properties"
    told = {line.partition("=")[0] for line in own.splitlines() if line}
    kept = [
        line
        for line in written.read_text("utf-8").splitlines()
        if line.partition("=")[0] not in told
    ]
    written.write_text("\n".join(kept) + own + rules, encoding="utf-8")
    return LocalServer(launch)


def _make_users(admin: AdminClient, names: Sequence[str]) -> None:
    proof = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, SCRAM_ITERATIONS)
    made = [UserScramCredentialUpsertion(name, proof, PASSWORD.encode()) for name in names]
    for future in admin.alter_user_scram_credentials(made).values():
        future.result(cluster.ANSWER_WITHIN_S)


def _redis(settings: Settings, folder: Path, chain: Path, key: Path) -> LocalServer:
    """Redis: TLS for clients, no default user, one user for the view's keys alone."""
    launch = RedisServer.install(settings, silent).launch(folder / "redis", port=None)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-auth-clients", "no"]
    options += ["--tls-cert-file", str(chain), "--tls-key-file", str(key)]
    acl = folder / "users.acl"
    acl.write_text(
        # As processor/view/README.md says: the keys of its prefix, no dangerous commands.
        f"user {REDIS_USER} on >{REDIS_PASSWORD} ~holdfast:* +@all -@dangerous\n"
        # For the probe that waits for the server, and for nothing else.
        "user default on nopass -@all +ping\n",
        encoding="utf-8",
    )
    return LocalServer(
        msgspec.structs.replace(
            launch,
            argv=(*launch.argv, *options, "--aclfile", str(acl)),
            address=f"rediss://{LOOPBACK}:{port}/0",
        )
    )
