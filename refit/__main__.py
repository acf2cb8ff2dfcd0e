"""Run the command line: the console script `refit` and `python -m refit` are this."""

from __future__ import annotations


def main() -> None:
    """Import the command line, which takes a moment, in which Ctrl-C ends with one line as well; run it."""
    try:
        from refit.cli.main import main as run
    except KeyboardInterrupt:
        from refit.runtime.terminal import say

        say("error: interrupted; nothing was begun", stderr=True)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
