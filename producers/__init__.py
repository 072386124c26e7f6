"""Everything that writes to the topics: channel client, SCM connector, HTTP gateway, console."""
