"""One module per command group; each builds a typer app or a function that `holdfast.cli` mounts."""
