"""`python -m flows` is `refit`."""

from flows.cli import main

main()
