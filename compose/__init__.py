"""The local stack: real servers on this machine, with or without Docker.

Apache Kafka, a schema registry, Redis and, on demand, PostgreSQL, for a first run, for
development and for tests. The rule: every server here is the real one, listens on loopback only,
and is stopped by the process id that was recorded when it was started, never by its name.
"""
