"""The house rules that ruff and mypy do not know."""
