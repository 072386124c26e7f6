"""The `holdfast` command line, put together from its commands."""

import typer

from holdfast.commands import stack

app = typer.Typer(no_args_is_help=True, help="Soft inventory reservation, decided exactly once.")
app.add_typer(stack.app, name="stack")


def main() -> None:
    """Run the command line."""
    app()
