"""onhand/indexquery, GET onhand, onhand/exactquery: quantities, as they were committed.

Names come back in lower case; numbers are exact; calculated measures stand inside the data source
they belong to. Api-Version 1.0 answers one organization with an array, 2.0 several with pages.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.responses import Response

from producers.gateway import consistency, fields
from producers.gateway.api.answers import Json, number
from producers.gateway.api.records import NAME_LENGTH_MAX
from producers.gateway.call import Call
from producers.gateway.problems import Problem, bad
from producers.gateway.strict_json import members_of
from schemas import limits
from schemas.queries import (
    COMBINATIONS_MAX,
    PRODUCTS_MAX,
    Combinations,
    OnHandPage,
    OnHandQuery,
)

FILTERS: Final = "filters"
ORGANIZATIONS_MAX: Final = 64
PAGE_SIZE_MAX: Final = 10_000
PAGE_NUMBER_MAX: Final = 1_000_000
QUESTIONS_MAX: Final = (
    4_096  # Bodies whose question is remembered, until the configuration changes,
)
BODY_BYTES_REMEMBERED: Final = 1_024  # and how long they may be.
# Parameters of GET onhand that are no dimension.
_PARAMETERS: Final = frozenset(
    {
        "organizationid",
        "productid",
        "groupby",
        "groupbyvalues",
        "returnnegative",
        "dimensiondatasource",
        "pagenumber",
        "pagesize",
        "queryatp",
    }
)


async def index_query(call: Call) -> Response:
    """POST onhand/indexquery."""
    body = call.body
    if len(body) > BODY_BYTES_REMEMBERED or call.api_version != "1.0":  # 2.0 pages by the URL.
        return await _ask(call, _index_question_of(call))
    questions = call.gateway.places.questions
    question = questions.get(body)
    if question is None:
        question = _index_question_of(call)
        if len(questions) >= QUESTIONS_MAX:
            questions.clear()
        questions[body] = question
    return await _ask(call, question)


def _index_question_of(call: Call) -> OnHandQuery:
    members = members_of(call.json())
    filters = members_of(members.get(FILTERS), FILTERS)
    return index_question(members, filters, call)


async def on_hand(call: Call) -> Response:
    """GET onhand: the same by query string; a list is written with commas."""
    given: dict[str, list[str]] = {}
    for name, value in call.request.query_params.multi_items():
        given.setdefault(name.lower(), []).extend(part for part in value.split(",") if part)
    filters = {name: values for name, values in given.items() if name not in _PARAMETERS}
    for name in ("organizationid", "productid"):
        if name in given:
            filters[name] = given[name]
    members: dict[str, Any] = {
        "dimensiondatasource": _last(given, "dimensiondatasource"),
        "groupbyvalues": [*given.get("groupby", ()), *given.get("groupbyvalues", ())],
        "returnnegative": _boolean(_last(given, "returnnegative"), "returnNegative"),
        "queryatp": _boolean(_last(given, "queryatp"), "QueryATP"),
    }
    return await _ask(call, index_question(members, filters, call))


async def exact_query(call: Call) -> Response:
    """POST onhand/exactquery."""
    members = members_of(call.json())
    filters = members_of(members.get(FILTERS), FILTERS)
    return await _ask(call, exact_question(members, filters, call))


def index_question(
    members: Mapping[str, Any], filters: Mapping[str, Any], call: Call
) -> OnHandQuery:
    """Question of an index query.

    Raises:
        Problem: 400, it is not one, or too wide.

    """
    places = call.gateway.places
    organizations, products, source = _subject(members, filters, call)
    wanted = {
        name: tuple(fields.texts(filters, name, PRODUCTS_MAX, limits.DIMENSION_VALUE_LENGTH_MAX))
        for name in filters
        if name not in {"organizationid", "productid"}
    }
    wanted = {name: values for name, values in wanted.items() if values}
    sites, locations = (
        sum(len(v) for n, v in wanted.items() if places.base_name(n, source) == base)
        for base in ("siteid", "locationid")
    )
    if not products and (places.by_product or not (sites and locations)):
        needed = "productId" if places.by_product else "productId, or siteId and locationId,"
        raise bad(f"filters: {needed} must be named")
    if call.api_version == "1.0" and sites * locations > COMBINATIONS_MAX:
        raise bad(f"filters: sites times locations exceed {COMBINATIONS_MAX}; use Api-Version 2.0")
    return _question(members, call, organizations, products, source, filters=wanted)


def exact_question(
    members: Mapping[str, Any], filters: Mapping[str, Any], call: Call
) -> OnHandQuery:
    """Question of an exact query.

    Raises:
        Problem: 400, it is not one, or too wide.

    """
    places = call.gateway.places
    names = fields.texts(filters, "keys", limits.DIMENSIONS_MAX + 1, NAME_LENGTH_MAX)
    names += fields.texts(filters, "dimensions", limits.DIMENSIONS_MAX + 1, NAME_LENGTH_MAX)
    names = [name.lower() for name in names]
    if len(set(names)) != len(names):
        raise bad("filters.dimensions: names are expected, each once")
    rows = _rows(filters.get("values"), len(names))
    filters = {**filters}
    if "organizationid" in names and not filters.get("organizationid"):
        column = names.index("organizationid")
        filters["organizationid"] = list(dict.fromkeys(row[column] for row in rows))
    organizations, products, source = _subject(members, filters, call)
    bases = {places.base_name(name, source) for name in names}
    if places.by_product and not products:
        raise bad("filters: productId must be named")
    if not places.by_product and not {"siteid", "locationid"} <= bases:
        raise bad("filters.dimensions: siteId and locationId must be among them")
    # By product, no dimension need be named: the one combination of none is all there is.
    combinations = Combinations(tuple(names), rows) if names else None
    return _question(members, call, organizations, products, source, combinations=combinations)


def _subject(
    members: Mapping[str, Any], filters: Mapping[str, Any], call: Call
) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Organizations, products, and the data source whose names are used."""
    if members.get("queryatp"):
        raise Problem(400, "not-supported", "QueryATP: change schedules are not kept here")
    organizations = fields.texts(
        filters, "organizationId", ORGANIZATIONS_MAX, limits.ORGANIZATION_LENGTH_MAX
    )
    if not organizations:
        raise bad("filters.organizationId is missing")
    if len(organizations) > 1 and call.api_version == "1.0":
        raise bad("filters.organizationId: exactly one; several need Api-Version 2.0")
    products = fields.texts(filters, "productId", PRODUCTS_MAX, limits.PRODUCT_LENGTH_MAX)
    source = fields.text(members, "dimensionDataSource", NAME_LENGTH_MAX, "").lower()
    if source and source not in call.gateway.places.sources:
        raise bad(f"dimensionDataSource: no data source {source!r}")
    return tuple(organizations), tuple(products), source


def _question(
    members: Mapping[str, Any],
    call: Call,
    organizations: tuple[str, ...],
    products: tuple[str, ...],
    source: str,
    **more: Any,
) -> OnHandQuery:
    group_by = fields.texts(members, "groupByValues", limits.DIMENSIONS_MAX, NAME_LENGTH_MAX)
    number_, size = 1, 0
    if call.api_version == "2.0":
        number_ = _parameter(call, "pageNumber", 1, PAGE_NUMBER_MAX)
        size = _parameter(call, "pageSize", 0, PAGE_SIZE_MAX)
    return OnHandQuery(
        organization_ids=organizations,
        product_ids=products,
        group_by=tuple(name.lower() for name in group_by),
        dimension_data_source=source,
        return_negative=fields.flag(members, "returnNegative", default=False),
        page_number=number_,
        page_size=size,
        **more,
    )


def _rows(value: Any, width: int) -> tuple[tuple[str, ...], ...]:
    if not isinstance(value, list) or not value:
        raise bad("filters.values: an array of arrays is expected")
    if len(value) > COMBINATIONS_MAX:
        raise bad(f"filters.values: {len(value)} combinations exceed {COMBINATIONS_MAX}")
    for row in value:
        if not isinstance(row, list) or len(row) != width:
            raise bad(f"filters.values: {width} values are expected in each, as in dimensions")
        for inner in row:
            if not isinstance(inner, str) or len(inner) > limits.DIMENSION_VALUE_LENGTH_MAX:
                raise bad("filters.values: texts of up to 64 characters are expected")
            if inner:
                fields.checked_text(inner, "filters.values", limits.DIMENSION_VALUE_LENGTH_MAX)
    return tuple(tuple(row) for row in value)


def _parameter(call: Call, name: str, default: int, most: int) -> int:
    text = next(
        (v for n, v in call.request.query_params.multi_items() if n.lower() == name.lower()), ""
    )
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= most):
        raise bad(f"{name}: a number from 1 to {most} is expected")
    return int(text)


def _last(given: Mapping[str, list[str]], name: str) -> str | None:
    values = given.get(name)
    return values[-1] if values else None


def _boolean(value: str | None, name: str) -> bool | None:
    if value is None:
        return None
    if value.lower() not in {"true", "false"}:
        raise bad(f"{name}: true or false is expected")
    return value.lower() == "true"


async def _ask(call: Call, question: OnHandQuery) -> Response:
    headers = await consistency.settle(call)
    page = await call.gateway.queries.on_hand(question)
    body: Any = rows_of(page, organizations=call.api_version == "2.0")
    if call.api_version == "2.0":
        body = {"Value": body, "nextLink": _next_link(call, question) if page.has_more else ""}
    return Json(body, 200, headers)


def _next_link(call: Call, question: OnHandQuery) -> str:
    given = [name for name in call.request.query_params if name.lower() == "pagenumber"]
    url = call.request.url.remove_query_params(given)
    return str(url.include_query_params(pageNumber=question.page_number + 1))


def rows_of(page: OnHandPage, *, organizations: bool) -> list[dict[str, Any]]:
    """Rows in the original's words."""
    rows: list[dict[str, Any]] = []
    for row in page.rows:
        shown: dict[str, Any] = {"organizationId": row.organization_id} if organizations else {}
        shown["productId"] = row.product_id
        shown["dimensions"] = row.dimensions
        shown["quantities"] = {
            source: _numbers(measures.items()) for source, measures in row.quantities.items()
        }
        rows.append(shown)
    return rows


def _numbers(measures: Iterable[tuple[str, int]]) -> dict[str, Any]:
    return {name: number(quantity) for name, quantity in measures}
