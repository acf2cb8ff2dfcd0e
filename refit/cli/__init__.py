"""The command line `refit ...`, one file for each group of commands; each imports only what it needs."""
