"""`refit deploy`: a project's deployments for workers on other machines, which get it by git or in an image."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import urlsplit

from flows import deployments, notifications, shared_data
from flows.checkouts import state_outside
from flows.deployed_run import CLONE, IMAGE
from flows.deployment_remarks import remarks
from flows.deployments import deployed_name, environment_of, every
from flows.services.service_state import is_own_server
from refit.errors import UserError
from refit.files.artifacts import STATE
from refit.files.yaml_files import YamlTree
from refit.runtime import dvc_remote, environments, provenance, run_file
from refit.runtime.terminal import say
from registry import versions
from registry.ledger import Ledger
from registry.store import RegistryError, Store, faults

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

Pull = Literal["git", "image", "folder"]
PULLS: tuple[Pull, ...] = get_args(Pull)
PullStep = dict[str, dict[str, str]]  # of `prefect.yaml`: the function that a worker calls, with its arguments


@dataclass(frozen=True)
class Origin:
    """Where a worker gets the project: a commit of a repository, and the project's folder in it."""

    repository: str
    commit: str
    folder: str
    branch: str | None = None  # that is checked out; None for a commit without one
    warning: str = ""  # if the remote's default branch does not have the commit

    def step(self, secret: str | None) -> PullStep:
        """Return the pull step; `secret` names the Prefect Secret block with an access token."""
        token = {"access_token": f"{{{{ prefect.blocks.secret.{secret} }}}}"} if secret else {}
        arguments = {"repository": self.repository, "commit": self.commit, "project": self.folder}
        return {CLONE: arguments | token}


@dataclass(frozen=True)
class Before:
    """Where a deployment was on the server, until it was deployed again."""

    pool: str | None
    repository: str | None = None  # with `commit`: None if runs did not clone
    commit: str | None = None

    def __str__(self) -> str:
        """What a person reads.

        >>> str(Before("team", "https://example.org/r.git", "045e630c2d5e8f1b"))
        'pool team, commit 045e630c2d5e of https://example.org/r.git'
        """
        clone = f", commit {self.commit[:12]} of {self.repository}" if self.commit else ""
        return f"pool {self.pool}{clone}"


@dataclass(frozen=True)
class Deployed:
    """What has been deployed; `was` has the deployments that were in another pool or at another commit before."""

    names: list[str]
    origin: Origin | None
    was: dict[str, Before]


def deploy(
    project: Path,
    *,
    pool: str,
    pull: Pull,
    repository: str | None = None,
    secret: str | None = None,
    move: bool = False,
) -> Deployed:
    """Deploy everything in `prefect.yaml` to a work pool of the configured Prefect server; return what was deployed.

    A pool that does not exist is created for process workers; one that exists keeps its type and template.

    Args:
        pull: how a run gets the project: a clone of the commit that is checked out, the worker's image, or this folder.
        repository: which repository is cloned; the remote `origin` if None.
        secret: the Prefect Secret block with the token that reads it.
        move: whether deployments may leave the pool that they are in.

    Raises:
        UserError: no server is configured, or it is that of the project's own `refit up`, code is not committed or
            pushed, the registry is in the folder, runs in this folder were to come from a pool of somebody else,
            deployments are in another pool, or the model is deployed in another environment.
        RefitError: Prefect refused it.
    """
    deployments.require(project)
    environment = _server()
    require_not_up(project, environment["PREFECT_API_URL"])
    params = run_file.params_outside(project)
    origin: Origin | None = None
    steps: list[PullStep] = []
    if pull != "folder":
        warn_of_silent_stores(state_outside(project, params), params.project.name)
        origin = origin_of(project, repository) if pull == "git" else None
        steps = [origin.step(secret) if origin else {IMAGE: {}}]
        if origin and origin.warning:
            say(f"warning: {origin.warning}", stderr=True)
        if not dvc_remote.has_remote(project):
            say(
                "warning: DVC has no remote: each run starts from the sources; `dvc remote add -d NAME URL` adds one",
                stderr=True,
            )
    within = environments.current()
    content = remote(deployments.declared_in(project), pool=pool, steps=steps, within=within)
    present = of_model(environment, params.project.name)
    require_alone(present, params.project.name, within)
    was = before(present, content["deployments"], pool=pool, origin=origin)
    if not move:
        require_same_pool(was, pool)
    deployments.provide(project, environment, pool=pool, in_project=pull == "folder", theirs=True)
    (project / STATE).mkdir(mode=0o700, exist_ok=True)
    deployments.deploy(project, content, environment, log=project / STATE / "deploy.log")
    for remark in remarks(project, in_folder=pull == "folder"):
        say(remark, stderr=True)
    notifications.provide(params, [entry["name"] for entry in content["deployments"]], environment)
    if steps and (step := shared_data.missing_step(project)) and dvc_remote.has_remote(project):
        say(step, stderr=True)
    return Deployed([_full_name(entry) for entry in content["deployments"]], origin, was)


def warn_of_silent_stores(store: Store, model: str) -> None:
    """Ask the MLflow server and the ledger's database something, and say so if one does not answer or refuses.

    It is a warning, as this machine may lack a password, or a way there, that the workers have.
    """
    questions = (lambda: versions.registered(store, model), lambda: Ledger.of(store).last_move(model))
    for question in questions:
        try:
            with faults(store):
                question()
        except RegistryError as error:
            say(f"warning: {error}. That is so here; runs fail too if it is so for the workers", stderr=True)


def before(
    present: Sequence[DeploymentResponse], entries: Sequence[YamlTree], *, pool: str, origin: Origin | None
) -> dict[str, Before]:
    """Return where the deployments of `entries` are on the server, of those in another pool or at another commit."""
    known = {(each.name, each.entrypoint): each for each in present}
    found = {
        _full_name(entry): _before(known[key])
        for entry in entries
        if (key := (entry["name"], entry["entrypoint"])) in known
    }
    after = Before(pool, origin.repository, origin.commit) if origin else Before(pool)
    return {name: was for name, was in found.items() if was != after}


def require_same_pool(was: Mapping[str, Before], pool: str) -> None:
    """Refuse to take deployments away from their pool, since its workers would no longer run them.

    Raises:
        UserError: one is in another pool.
    """
    moved = [name for name, there in was.items() if there.pool not in (None, pool)]
    if moved:
        there, others = was[moved[0]], f" (and {len(moved) - 1} more)" if len(moved) > 1 else ""
        raise UserError(
            f"{moved[0]}{others} is deployed already: {there}; in {pool} no worker of {there.pool} would run it. "
            f"`--pool {there.pool}` updates it there, `--move` takes it to {pool}"
        )


def _before(deployment: DeploymentResponse) -> Before:
    for step in deployment.pull_steps or []:
        if isinstance(arguments := step.get(CLONE), Mapping):
            return Before(deployment.work_pool_name, str(arguments.get("repository")), str(arguments.get("commit")))
    return Before(deployment.work_pool_name)


def of_model(server: Mapping[str, str], model: str) -> list[DeploymentResponse]:
    """The deployments of a model that a Prefect server has, in every environment."""
    from prefect import get_client, settings
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    updates = {getattr(settings, name): value for name, value in server.items()}
    with settings.temporary_settings(updates), get_client(sync_client=True) as client:
        named = DeploymentFilter(name=DeploymentFilterName(like_=model))
        found = every(client.read_deployments, deployment_filter=named)
    return [each for each in found if each.name.startswith((f"{model}.", f"{model}@"))]


def require_not_up(project: Path, url: str) -> None:
    """Refuse the server of the project's own `refit up`, which has all deployments already, by other names.

    Raises:
        UserError: it is that server.
    """
    if is_own_server(project, url):
        raise UserError(
            f"{url} is the server of the `refit up` of this project, which has deployed all of "
            f"{deployments.PREFECT_YAML}: each schedule and each drift would start two runs. `refit up` again "
            "deploys what has changed; `refit deploy` is for another server: name it by PREFECT_API_URL"
        )


def require_alone(present: Sequence[DeploymentResponse], model: str, within: str | None) -> None:
    """Refuse a server where the model is deployed in another environment: each would hear of the other's drift.

    Args:
        present: the deployments of the model that the server has.
        within: the environment that is deployed; None for `params.yaml` alone.

    Raises:
        UserError: it is.
    """
    for name in sorted(each.name for each in present):
        if (other := environment_of(name)) != within:
            raise UserError(
                f"the Prefect server has {name}, which is {model} in {other or 'params.yaml alone'}: one server has a "
                f"model in one environment; deploy {within or 'params.yaml alone'} to another server, or delete that "
                "model's deployments there first"
            )


def remote(declared: YamlTree, *, pool: str, steps: list[PullStep], within: str | None = None) -> YamlTree:
    """Return `prefect.yaml` for a server with other projects: names begin with the model's, and runs with `steps`.

    Args:
        declared: for the model of the environment (`deployments.declared_in`).
        within: the environment that runs have to be in; it is part of the names, and each run compares it.
    """
    model = str(declared["name"])
    entries = [dict(entry) for entry in declared.get("deployments") or ()]
    names = {entry["name"]: deployed_name(entry["name"], model, within) for entry in entries}
    for entry in entries:
        entry["name"] = names[entry["name"]]
        entry["work_pool"] = {**(entry.get("work_pool") or {}), "name": pool}
        if "triggers" in entry:
            entry["triggers"] = [_renamed(trigger, names) for trigger in entry["triggers"]]
    return {**declared, "deployments": entries, **({"pull": steps} if steps else {})}


def origin_of(project: Path, repository: str | None = None) -> Origin:
    """Return the commit that is checked out, after checking that workers can clone it.

    Raises:
        UserError: the project is not in git, has uncommitted code or no remote, or the commit was not pushed.
    """
    top = provenance.repository(project)
    commit = provenance.commit_hash(project)
    if top is None or commit is None:
        raise UserError(f"{project} has no commit in git, so no worker can clone it; commit it, or use --pull image")
    if files := provenance.uncommitted_code(project):
        raise UserError(f"{project} has code that is not committed: {', '.join(files[:5])}; commit and push it first")
    url = repository or _git(top, "remote", "get-url", "origin")
    if url is None:
        raise UserError(f"{top} has no remote `origin`; name the repository by --repository URL")
    if _has_secret(url):
        raise UserError(
            "the repository's URL contains a user, a token or a query, which everybody with access to Prefect would "
            "see; leave it out, store the token in a Prefect Secret block, and name that by --git-secret"
        )
    if repository is None and not _git(top, "branch", "--remotes", "--contains", commit, "--list", "origin/*"):
        raise UserError(f"commit {commit[:12]} is not in {url} as far as this clone knows; `git push` it first")
    branch = _git(top, "symbolic-ref", "--quiet", "--short", "HEAD")
    warning = _not_on_default_branch(top, commit, branch) if repository is None else ""
    return Origin(url, commit, project.resolve().relative_to(top.resolve()).as_posix(), branch, warning)


def _not_on_default_branch(top: Path, commit: str, branch: str | None) -> str:
    """Return a line if the default branch of `origin` lacks a commit; empty too where this clone does not know it."""
    default = _git(top, "symbolic-ref", "--quiet", "--short", "refs/remotes/origin/HEAD")
    if default is None or _git(top, "branch", "--remotes", "--contains", commit, "--list", default):
        return ""
    where = f"of the branch {branch}" if branch else "of no branch that is checked out"
    return f"commit {commit[:12]} {where} is not on {default}, the default branch, and all runs will use it"


def _has_secret(url: str) -> bool:
    """Whether a URL may contain a token; the user of SSH is none.

    >>> [_has_secret(url) for url in ("ssh://git@host/r.git", "http://TOKEN@host/r.git", "https://host/r?token=T")]
    [False, True, True]
    """
    parts = urlsplit(url)
    user = parts.username if "ssh" not in parts.scheme else None
    return bool(parts.scheme and (user or parts.password or parts.query or parts.fragment))


def _git(top: Path, *arguments: str) -> str | None:
    done = subprocess.run(["git", "-C", str(top), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def _server() -> dict[str, str]:
    """Return Prefect's settings for the configured server.

    Raises:
        UserError: none is configured.
    """
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        raise UserError(
            "no Prefect server is configured: export PREFECT_API_URL=http://HOST:4200/api, and PREFECT_API_AUTH_STRING "
            "where it has one; `refit up` runs everything on this machine"
        )
    settings = {"PREFECT_API_URL": url}
    if secret := os.environ.get("PREFECT_API_AUTH_STRING"):
        settings["PREFECT_API_AUTH_STRING"] = secret
    return settings


def _renamed(trigger: YamlTree, names: Mapping[str, str]) -> YamlTree:
    """Return a trigger that follows deployments by their names on the server."""
    related = trigger.get("match_related") or []
    entries = [
        {**entry, "prefect.resource.name": [names.get(name, name) for name in _listed(entry["prefect.resource.name"])]}
        if entry.get("prefect.resource.role") == "deployment"
        else entry
        for entry in (related if isinstance(related, list) else [related])
    ]
    return {**trigger, **({"match_related": entries} if entries else {})}


def _listed(names: str | list[str]) -> list[str]:
    return [names] if isinstance(names, str) else names


def _full_name(entry: YamlTree) -> str:
    flow = str(entry["entrypoint"]).rpartition(":")[2].replace("_", "-")
    return f"{flow}/{entry['name']}"
