"""Options that many people's commands share, said once.

A command takes `item` or `choice` (what it is about), `stack` (whom it asks) and arguments of its
own; the decorators put the options that make those up in their place. Typer sees the options alone.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, Final, get_type_hints

import msgspec
import typer

from holdfast.connection import Stop, in_words
from producers.channel import Item

Product = Annotated[str, typer.Argument(help="Product, for example D0002.")]
Org = Annotated[str, typer.Option("--org", help="Legal entity, for example usmf.")]
Site = Annotated[str | None, typer.Option("--site", help="Dimension siteid.")]
Warehouse = Annotated[str | None, typer.Option("--warehouse", help="Dimension locationid.")]
Color = Annotated[str | None, typer.Option("--color", help="Dimension colorid.")]
Size = Annotated[str | None, typer.Option("--size", help="Dimension sizeid.")]
Style = Annotated[str | None, typer.Option("--style", help="Dimension styleid.")]
Dims = Annotated[
    list[str] | None, typer.Option("--dimension", "-d", help="Any other: name=value. Repeatable.")
]
FailureIds = Annotated[
    list[str] | None, typer.Argument(help="Failure ids, as `offsets failed` shows them.")
]
Everything = Annotated[
    bool, typer.Option("--all", help="Every entry of the list that --order or --product leaves.")
]
OfOrder = Annotated[str, typer.Option("--order", help="Only those of this order.")]
OfProduct = Annotated[str, typer.Option("--product", help="Only those of this product.")]
AsJson = Annotated[bool, typer.Option("--json", help="One line of JSON per answer, on stdout.")]
Bootstrap = Annotated[str | None, typer.Option("--bootstrap", help="Kafka, host:port.")]
Registry = Annotated[str | None, typer.Option("--registry", help="Schema registry URL.")]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Seconds to wait. Default: 10.")]

_NEEDED: Final = inspect.Parameter.empty
_ITEM: Final[Mapping[str, tuple[Any, Any]]] = {
    "org": (Org, _NEEDED),
    "site": (Site, None),
    "warehouse": (Warehouse, None),
    "color": (Color, None),
    "size": (Size, None),
    "style": (Style, None),
    "dimension": (Dims, None),
}
_CHOICE: Final[Mapping[str, tuple[Any, Any]]] = {
    "everything": (Everything, False),
    "order": (OfOrder, ""),
    "product": (OfProduct, ""),
}
_STACK: Final[Mapping[str, tuple[Any, Any]]] = {
    "as_json": (AsJson, False),
    "bootstrap": (Bootstrap, None),
    "registry": (Registry, None),
    "timeout": (Timeout, None),
}


class Asked(msgspec.Struct, frozen=True):
    """Whom a command asks, how long it waits, and how it shows the answer."""

    bootstrap: str | None
    registry: str | None
    timeout: float | None
    as_json: bool


class Choice(msgspec.Struct, frozen=True):
    """Which failed offsets a command is about: those named, or all that the filters leave."""

    failure_ids: list[str]
    everything: bool = False
    order: str = ""
    product: str = ""


def dimension_values(named: Mapping[str, str | None], others: list[str] | None) -> dict[str, str]:
    """Dimension values of the options; `named` by the options' own names.

    Raises:
        Stop: one of the others is not name=value.

    """
    base = {
        "siteid": named.get("site"),
        "locationid": named.get("warehouse"),
        "colorid": named.get("color"),
        "sizeid": named.get("size"),
        "styleid": named.get("style"),
    }
    dimensions = {name: value for name, value in base.items() if value is not None}
    for pair in others or []:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise Stop(f"{pair}: write name=value, for example batchid=B7")
        dimensions[name.lower()] = value
    return dimensions


def about_an_item(command: Callable[..., None]) -> Callable[..., None]:
    """Put a product and its place in the place of `item`, and the stack's options behind."""

    def spread(own: list[inspect.Parameter]) -> list[inspect.Parameter]:
        product = _option("product", Product, _NEEDED)
        return [product, *own, *_options(_ITEM), *_options(_STACK)]

    def gather(words: dict[str, Any]) -> dict[str, Any]:
        product, org, others = words.pop("product"), words.pop("org"), words.pop("dimension")
        named = {name: words.pop(name) for name in _ITEM if name in words}
        with in_words():
            item = Item(org, product, dimension_values(named, others))
        return {**words, "item": item}

    return _with_options(command, {"item", "stack"}, spread, gather)


def about_failures(command: Callable[..., None]) -> Callable[..., None]:
    """Put the choice of failed offsets in the place of `choice`, and the stack's options behind."""

    def spread(own: list[inspect.Parameter]) -> list[inspect.Parameter]:
        named = _option("failure_ids", FailureIds, None)
        return [named, *_options(_CHOICE), *own, *_options(_STACK)]

    def gather(words: dict[str, Any]) -> dict[str, Any]:
        named = words.pop("failure_ids") or []
        filters = {name: words.pop(name) for name in _CHOICE}
        return {**words, "choice": Choice(named, **filters)}

    return _with_options(command, {"choice", "stack"}, spread, gather)


def _with_options(
    command: Callable[..., None],
    replaced: set[str],
    spread: Callable[[list[inspect.Parameter]], list[inspect.Parameter]],
    gather: Callable[[dict[str, Any]], dict[str, Any]],
) -> Callable[..., None]:
    hints = get_type_hints(command, include_extras=True)
    own = [
        _option(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(command).parameters.items()
        if name not in replaced
    ]
    parameters = spread(own)

    @wraps(command)
    def run(**words: Any) -> None:
        stack = Asked(**{name: words.pop(name) for name in _STACK})
        command(**gather(words), stack=stack)

    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    return run


def _options(group: Mapping[str, tuple[Any, Any]]) -> list[inspect.Parameter]:
    return [_option(name, annotation, default) for name, (annotation, default) in group.items()]


def _option(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
    )
