"""Run the command line: `python -m refit` is `refit`."""

from refit.cli.main import main

main()
