"""Scenarios that show what Holdfast does, played through the real topics and checked."""
