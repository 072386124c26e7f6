"""The `holdfast` command line, put together from its commands."""

import typer

from holdfast.commands import (
    audit,
    bench,
    config,
    connector,
    demo,
    faults,
    gateway,
    migrate,
    offsets,
    people,
    run,
    stack,
    token,
    topics,
    view,
    worker,
)

app = typer.Typer(no_args_is_help=True, help="Soft inventory reservation, decided exactly once.")
run.register(app)
worker.register(app)
gateway.register(app)
token.register(app)
app.add_typer(stack.app, name="stack")
app.add_typer(topics.app, name="topics")
app.add_typer(topics.schemas_app, name="schemas")
app.add_typer(config.app, name="config")
app.add_typer(connector.app, name="connector")
app.add_typer(offsets.app, name="offsets")
app.add_typer(view.app, name="view")
people.register(app)
audit.register(app)
migrate.register(app)
demo.register(app)
bench.register(app)
faults.register(app)


def main() -> None:
    """Run the command line."""
    app()
