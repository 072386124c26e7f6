"""The contract: what crosses a process boundary, and nothing else.

The only room that both `processor` and `producers` may enter. Names here are the names everywhere:
the same word in Avro, Python, HTTP, Redis, logs and metrics.
"""
