"""The YAML form: what is written is read again, and every error names its line and remedy."""

import pytest
from hypothesis import given, settings, strategies as st

from processor.inventory.configuration import PRESETS, Problem, default, dump, parse


def only(text: str) -> Problem:
    """The one error of a text."""
    problems = [one for one in parse(text).problems if one.severity == "error"]
    assert len(problems) == 1, problems
    return problems[0]


def edited(old: str, new: str) -> tuple[str, int]:
    """Default document with one piece of text replaced, and the line it is on."""
    text = dump(default())
    assert text.count(old) == 1, old
    return text.replace(old, new), text[: text.index(old)].count("\n") + 1


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_dumped_is_parsed_again(name: str) -> None:
    """YAML is a form of the document, not another document."""
    document = PRESETS[name]()
    assert parse(dump(document)).configuration == document


def test_names_may_be_written_in_any_case() -> None:
    """The YAML form is case-insensitive in names, and its errors still find the line."""
    text, line = edited("- +iv.ordered", "- +IV.Orderd")
    problem = only(text)
    assert problem.line == line
    assert "iv.orderd" in problem.rule
    right, _ = edited("- +iv.ordered", "- +IV.Ordered")
    assert parse(right).configuration == default()


SHAPES = [
    ("mode: prefix", "mode: prefx", "reservation.mode", "one of prefix, subset"),
    ("mode: prefix", "mdoe: prefix", "reservation.mdoe", "did you mean `mode`?"),
    ("\nversion: 1", "\nversion: one", "version", "see `holdfast config schema`"),
    (
        "    inventsizeid: sizeid",
        "    inventsizeid: 7",
        "data_sources.fno.dimension_mappings.inventsizeid",
        "see `holdfast config schema`",
    ),
    (
        "    - +iv.ordered",
        "    - iv.ordered",
        "data_sources.iv.calculated_measures.availabletoreserve[4]",
        "+source.measure",
    ),
    (
        "  buckets: 64",
        "  buckets: 64\n  buckets: 65",
        "partition.buckets",
        "keep one of the two",
    ),
    ("grace_ms: 0", "grace_ms: -1", "grace_ms", "see `holdfast config schema`"),
]


@pytest.mark.parametrize(("old", "new", "path", "remedy"), SHAPES)
def test_a_wrong_shape_names_line_path_and_remedy(
    old: str, new: str, path: str, remedy: str
) -> None:
    """What does not fit the document's form is found at its own line."""
    text, line = edited(old, new)
    problem = only(text)
    assert (problem.path, problem.line) == (path, line + new.count("\n"))
    assert remedy in problem.remedy


def test_a_mistake_in_meaning_names_its_line() -> None:
    """What fits the form and breaks a rule is found at its own line too."""
    text, line = edited("- -fno.reservphysical", "- -fno.reservphysicl")
    assert only(text).line == line


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "empty"),
        ("a: [", "not YAML"),
        ("@iv: {}", "not YAML"),
        ("- 1", "Expected `object`"),
        ("a: !!python/object:os.system {}", "unknown field"),
        ("a: !!python/name:os.system x", "not a value"),
        ("? [a]\n: 1", "plain name"),
        ("x: &a [*a]", "nested"),
        ("[" * 1_500, "nested"),
        ("x: &a [1,1,1,1,1,1]\ny: &b [*a,*a,*a,*a,*a,*a,*a]\n" * 1, "unknown field"),
        ("version: " + "9" * 5_000, "not a value"),
        ("a" * 300_000, "longer than"),
    ],
)
def test_bad_files_are_problems_and_never_exceptions(text: str, rule: str) -> None:
    """Whatever a file holds, it ends in a named problem; nothing in it runs."""
    problem = only(text)
    assert rule in problem.rule
    assert problem.line is not None


def test_aliases_cannot_blow_up() -> None:
    """Nested aliases that would unfold to a billion values are stopped by a bound."""
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert "repeated" in only("\n".join(lines)).rule


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_parsed_or_named(text: str) -> None:
    """`parse` never raises, and without a document there is at least one error."""
    parsed = parse(text)
    assert parsed.configuration is not None or parsed.problems


@given(
    st.integers(0, 3_000), st.sampled_from(["", "x", ":", "- ", "@", "'", "[", "\t", "&a", "*a"])
)
@settings(max_examples=60, deadline=None)
def test_a_damaged_document_is_parsed_or_named(position: int, damage: str) -> None:
    """A document damaged anywhere never raises."""
    text = dump(default())
    at = position % len(text)
    parsed = parse(text[:at] + damage + text[at + 1 :])
    assert parsed.configuration is not None or parsed.problems[0].line is not None
