"""The commands of `refit` that show or change the champion, and export, sign, repair and clean up the registry."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from refit.cli.options import HERE, AsJson, Debug, Project, Wait, Why, print_outcome, project_at
from refit.errors import UserError
from refit.runtime.terminal import print_json, say

if TYPE_CHECKING:
    from refit.operations.reproduce import DigestPair

app = typer.Typer()


@app.command()
def show(project: Project = HERE, as_json: AsJson = False, debug: Debug = False) -> None:
    """Which version is champion, since when, why, and its numbers."""
    from refit.cli import inspection

    champion = inspection.champion_summary(project_at(project))
    inspection.warn_of_broken_ledger(project_at(project))
    if as_json:
        print_json(champion.to_json())
    else:
        inspection.print_champion(champion)


@app.command()
def history(project: Project = HERE, as_json: AsJson = False, debug: Debug = False) -> None:
    """Every promotion, refusal, overruling and rollback: when, what, why, and who decided."""
    from refit.cli import inspection

    entries = inspection.history(project_at(project))
    broken = inspection.warn_of_broken_ledger(project_at(project))
    if as_json:
        print_json({"history": [asdict(entry) for entry in entries], "broken": broken})
    else:
        inspection.print_history(entries)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="model version")],
    second: Annotated[str, typer.Argument(help="model version to compare it with")],
    out: Annotated[Path | None, typer.Option("--out", help="also write it as a page, .html")] = None,
    project: Project = HERE,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Two versions side by side: metrics, params, features, data and code."""
    from refit.cli import comparison

    compared = comparison.compare(project_at(project), first, second, out)
    if as_json:
        print_json(compared.to_json())
        return
    comparison.print_comparison(compared)
    if out is not None:
        say(f"the page is {out}")


@app.command()
def explain(
    version: Annotated[str | None, typer.Argument(help="model version: why it is, or is not, champion")] = None,
    row: Annotated[
        str | None, typer.Option("--row", help="key of a row, or a CSV or Parquet file: why it is predicted so")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="with --row: a picture of the first row, .png")] = None,
    project: Project = HERE,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Why a version is, or is not, champion; or, with --row, which features pushed a prediction up and down."""
    if (version is None) == (row is None):
        raise UserError(
            "say what to explain: `refit explain VERSION` says why a version is, or is not, champion (`refit history` "
            "lists them); `refit explain --row KEY`, or --row FILE.csv, which features pushed a prediction up and down"
        )
    if version is not None and not version.isdecimal():
        raise UserError(
            f"{version!r} is no version, which is a number (`refit history` lists them); which features pushed a "
            f"prediction up and down, `refit explain --row {shlex.quote(version)}` says"
        )
    if row is None and out is not None:
        raise UserError(f"--out {out}: a picture is drawn of a row (--row KEY); why a version is champion is text")
    if row is None:
        from refit.cli import inspection

        sentences = inspection.explain_version(project_at(project), str(version))
        if as_json:
            print_json({"version": version, "why": sentences})
        else:
            for sentence in sentences:
                say(sentence)
        return
    from refit.cli import explain

    report = explain.explain_row(project_at(project), row, out=out, wait_seconds=wait, quiet=as_json)
    if as_json:
        print_json(report.to_json())


@app.command()
def lineage(
    version: Annotated[str | None, typer.Argument(help="model version")] = None,
    data: Annotated[str | None, typer.Option("--data", help="digest of a batch or a snapshot: what came of it")] = None,
    project: Project = HERE,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """What a version was made from; or, with --data, which versions were made from a batch."""
    from refit.cli import inspection

    if (version is None) == (data is None):
        raise UserError("name a version, or give --data DIGEST")
    if version is not None:
        lineage = inspection.lineage_of(project_at(project), version)
        print_json(lineage.to_json()) if as_json else inspection.print_lineage(lineage)
        return
    made = inspection.made_from(project_at(project), str(data))
    if as_json:
        print_json({"versions": [each.to_json() for each in made]})
    else:
        inspection.print_made_versions(made)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="model version to promote")],
    to: Annotated[
        str | None, typer.Option("--to", help="environment to move a champion to; it is judged again there")
    ] = None,
    project: Project = HERE,
    why: Why = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Promote a version through the gate's checks; `--why` overrules the gate, on the record."""
    from refit.cli import running

    folder = project_at(project)
    if to is None:
        done = running.promote(folder, version, why=why, wait_seconds=wait)
    else:
        done = running.promote_to(folder, version, to=to, why=why, wait_seconds=wait)
    print_outcome(done, as_json=as_json)


@app.command()
def approve(
    version: Annotated[str | None, typer.Argument(help="model version that waits for approval")] = None,
    lift: Annotated[
        bool, typer.Option("--lift", help="no approval is needed from now on; params.yaml must say none")
    ] = False,
    project: Project = HERE,
    why: Why = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Promote a version that the gate would promote and that waits for a person (`register.approval: required`)."""
    from refit.cli import running

    if (version is None) != lift:
        raise UserError("name the version to approve (`refit show` names those that wait), or give --lift")
    if not why:
        raise UserError("an approval needs a reason, which the ledger keeps: --why TEXT")
    folder = project_at(project)
    if version is None:
        done = running.lift_approval(folder, why=why, wait_seconds=wait)
    else:
        done = running.approve(folder, version, why=why, wait_seconds=wait)
    print_outcome(done, as_json=as_json)


@app.command()
def reject(
    version: Annotated[str, typer.Argument(help="model version that waits for approval")],
    project: Project = HERE,
    why: Why = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Refuse a version that waits for a person's approval; the champion stays."""
    from refit.cli import running

    if not why:
        raise UserError("a refusal needs a reason, which the ledger keeps: --why TEXT")
    print_outcome(running.reject(project_at(project), version, why=why, wait_seconds=wait), as_json=as_json)


@app.command()
def rollback(
    to: Annotated[
        str | None, typer.Option("--to", help="version to restore as champion; default: the one before")
    ] = None,
    project: Project = HERE,
    why: Why = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make an earlier version champion again, once its stored model has proved to be what it was."""
    from refit.cli import running

    print_outcome(running.rollback(project_at(project), to, why=why, wait_seconds=wait), as_json=as_json)


@app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="model version")],
    project: Project = HERE,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Make a version again from its own code, params and data, and compare; status 1 where the model differs."""
    from refit.cli import running

    compared = running.reproduce(project_at(project), version, wait_seconds=wait)
    if as_json:
        print_json({"version": version, "reproduced": compared[-1].same, "compared": [vars(each) for each in compared]})
    else:
        for each in compared:
            differs = f"DIFFERS: {each.then or 'not recorded'} then, {each.now} now"
            say(f"{each.what:<20} {'same' if each.same else differs}")
        if not compared[-1].same:
            say(_why_differs(compared))
    if not compared[-1].same:
        raise typer.Exit(1)


def _why_differs(compared: Sequence[DigestPair]) -> str:
    """What a model that was made again as another one predicts, and where it would be made bit for bit."""
    differs = {each.what for each in compared if not each.same}
    far = compared[-1].difference
    said = "the golden predictions of the model made again "
    said += "could not be compared" if far is None else f"differ from those stored by {far:.2g} at most"
    where = [what for what in ("Refit", "pinned libraries", "processor") if what in differs]
    if where:
        said += f"; for the same bits, make it again with the {' and the '.join(where)} of then"
    return said


@app.command()
def export(
    to: Annotated[Path, typer.Option("--to", help="the new folder")],
    version: Annotated[str | None, typer.Argument(help="model version; default: the champion")] = None,
    project: Project = HERE,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Write a version's files to a folder, once they are shown to be those registered; `refit.load` reads it."""
    from flows import session
    from refit.models import export as exporting

    exported = exporting.export(session.context_of(project_at(project)), version, to)
    if as_json:
        print_json(vars(exported))
        return
    say(f"version {exported.version} of {exported.model} is in {exported.folder}, as it was registered")
    say(f"manifest {exported.manifest}" + (f", signature {exported.signature}" if exported.signature else ""))


@app.command()
def sign(
    version: Annotated[str | None, typer.Argument(help="model version; default: the champion")] = None,
    project: Project = HERE,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Sign a version that was registered before `registry.signing` was set."""
    from flows import session
    from refit.models import export as exporting

    print_outcome(exporting.sign(session.context_of(project_at(project)), version), as_json=as_json)


@app.command()
def repair(
    project: Project = HERE,
    accept_ledger: Annotated[
        bool, typer.Option("--accept-ledger", help="go on with a broken ledger as it stands; needs --why")
    ] = False,
    move_ledger: Annotated[
        bool, typer.Option("--move-ledger", help="copy this checkout's ledger into the one of registry.ledger_uri")
    ] = False,
    why: Why = None,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """Put the champion that the ledger names back, where its alias or its version was deleted in MLflow."""
    from refit.cli import running

    if accept_ledger and not why:
        raise UserError("to accept a broken ledger needs a reason, which it keeps: --why TEXT")
    if why and not accept_ledger:
        raise UserError("--why belongs to --accept-ledger: a repair alone needs no reason")
    if move_ledger and accept_ledger:
        raise UserError("--move-ledger and --accept-ledger are two repairs: give one of them")
    if move_ledger:
        print_outcome(running.move_ledger(project_at(project), wait_seconds=wait), as_json=as_json)
        return
    print_outcome(
        running.repair(project_at(project), accept_ledger=why if accept_ledger else None, wait_seconds=wait),
        as_json=as_json,
    )


@app.command()
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="delete it; without, it is only listed")] = False,
    project: Project = HERE,
    wait: Wait = 0,
    as_json: AsJson = False,
    debug: Debug = False,
) -> None:
    """What `retention` in params.yaml lets go: old versions, runs, caches, logs. Only a list, unless --delete."""
    from refit.cli import running

    plan = running.collect(project_at(project), delete=delete, wait_seconds=wait)
    if as_json:
        from refit.operations import retention

        print_json(retention.as_json(plan, deleted=delete))
    else:
        from refit.cli import inspection

        inspection.print_deletions(plan, deleted=delete)
