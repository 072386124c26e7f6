"""What can go wrong with the stack. Every message says why and what to do about it."""

PORT_TAKEN = "another program took its port meanwhile"


class StackError(Exception):
    """The stack, or one server of it, cannot be had. The message is meant for a person."""


class ServerMissingError(StackError):
    """Something the server needs is not on this machine; says in one sentence what and how."""


class ServerFailedError(StackError):
    """A server was started and ended, or never answered. Carries the reason and its log tail."""

    def __init__(self, server: str, reason: str, remedy: str, log_path: str, log_tail: str) -> None:
        super().__init__(
            f"{server} failed to start: {reason}\n"
            f"What to do: {remedy}\n"
            f"The end of its log ({log_path}):\n{log_tail}"
        )
        self.server = server
        self.reason = reason
        self.remedy = remedy
        self.log_tail = log_tail

    @property
    def port_taken(self) -> bool:
        """Whether another program took the port between its choice and the start."""
        return PORT_TAKEN in self.reason
