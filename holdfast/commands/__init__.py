"""One module per command group.

Each builds a typer app or a function that `holdfast.cli` mounts.
"""
