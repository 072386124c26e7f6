"""The command line starts quickly: what only some commands need, only those import."""

import subprocess
import sys

HEAVY = ("faust", "psycopg", "redis", "rocksdict", "starlette", "testcontainers", "uvicorn")


def test_no_command_imports_what_it_does_not_need() -> None:
    """Neither `--help` nor any command pays for the libraries of servers and of other rooms."""
    program = f"import holdfast.cli, sys; print([name for name in {HEAVY} if name in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "[]"
