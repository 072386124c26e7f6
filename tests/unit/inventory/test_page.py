"""The page of rules names what the code knows."""

from pathlib import Path

import pytest

import processor.inventory
from schemas.codes import Code

PAGE = Path(processor.inventory.__file__).with_name("README.md").read_text()


@pytest.mark.parametrize("code", list(Code))
def test_every_code_is_on_the_page(code: Code) -> None:
    """Number and name of every result code are in the page's table."""
    assert f"| {code.value} | `{code.name}` |" in PAGE
