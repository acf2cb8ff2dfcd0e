"""`python -m flows` is `refit`."""

from refit.cli.main import main

main()
