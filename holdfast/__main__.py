"""Run the command line as `python -m holdfast`."""

from holdfast.cli import main

main()
