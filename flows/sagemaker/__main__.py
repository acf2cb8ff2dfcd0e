"""`python -P -m flows.sagemaker`: train on SageMaker; `refit run` then goes on with evaluate and register."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from flows.run_options import RunOptions
from flows.sagemaker.job import Amazon, Machine, train_there
from flows.session import session
from refit.errors import RefitError, UserError
from refit.plain_text import one_line
from refit.runtime.context import Context
from refit.runtime.terminal import say
from tasks.stages import run_in, run_remembered

EARLIER = ("ingest", "validate", "featurize")


def options(arguments: Sequence[str] | None) -> tuple[Path, Machine]:
    """Return the project and the machine that the command line names.

    Raises:
        UserError: a tag is none, or what `Machine` refuses.
    """
    parser = argparse.ArgumentParser(prog="python -P -m flows.sagemaker", description=__doc__)
    parser.add_argument("--project", type=Path, default=Path())
    parser.add_argument("--image", required=True, help="Refit's image in Amazon's registry, best by its digest")
    parser.add_argument("--role", required=True, help="the job's role, arn:aws:iam::ACCOUNT:role/NAME")
    parser.add_argument("--folder", required=True, help="s3://BUCKET/PREFIX for inputs and outputs")
    parser.add_argument("--instance", default=Machine.instance, help="default: %(default)s")
    parser.add_argument("--volume-gb", type=int, default=Machine.volume_gb, help="default: %(default)s")
    parser.add_argument("--max-hours", type=float, default=Machine.max_hours, help="of training; default: %(default)s")
    parser.add_argument("--spot", action="store_true", help="a machine that costs less and may be taken away")
    parser.add_argument("--wait-hours", type=float, default=Machine.wait_hours, help="with --spot; %(default)s")
    parser.add_argument("--tag", action="append", default=[], metavar="KEY=VALUE", help="repeatable")
    given = vars(parser.parse_args(arguments))
    project, tags = given.pop("project"), [tag.partition("=") for tag in given.pop("tag")]
    if malformed := [key for key, equals, _ in tags if not key or not equals]:
        raise UserError(f"--tag {malformed[0]}: KEY=VALUE was expected")
    return project.resolve(), Machine(**given, tags={key: value for key, _, value in tags})


def train(project: Path, machine: Machine, amazon: Amazon) -> None:
    """Bring the features up to date here, and train there if DVC has no result of the same inputs."""

    def work(context: Context) -> None:
        train_there(context, machine, amazon)

    with session(project, RunOptions(), may_promote=False) as run:
        for stage in EARLIER:
            run_in(run, stage)
        started = time.monotonic()
        with run.stage("train"):
            outcome = run_remembered("train", run.context(), work=work)
        run.ended("train", outcome, time.monotonic() - started)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train; an error is one line, and the exit status is 2 for the user's mistakes."""
    try:
        project, machine = options(arguments)
        train(project, machine, Amazon.of_environment())
    except RefitError as error:
        say(f"error: {one_line(error)}", stderr=True)
        return error.exit_status
    return 0


if __name__ == "__main__":
    sys.exit(main())
