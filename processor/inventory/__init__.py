"""The decision, pure: no I/O, no clock, no randomness, no exceptions for refusals."""
