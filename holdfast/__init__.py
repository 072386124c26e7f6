"""The `holdfast` command: the composition root, the one place that may know every room."""

__version__ = "0.1.0"
