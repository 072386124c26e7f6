"""Where the running stack is: defaults for commands that are not told addresses."""

from compose.settings import Settings
from compose.stack import Stack


def worker_defaults() -> dict[str, object]:
    """Addresses of the stack this checkout has up, and a data directory in its home."""
    home = Settings.from_environment().home
    addresses = Stack.addresses(home)
    found: dict[str, object] = {"data_dir": str(home / "worker-1")}
    if addresses is not None:
        found["bootstrap_servers"] = addresses.kafka_bootstrap
        found["registry_url"] = addresses.registry_url
    return found
