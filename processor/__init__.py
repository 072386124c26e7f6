"""Requests in, decisions out."""

from typing import Final

from processor import compiled

COMPILED: Final = compiled.choose()
