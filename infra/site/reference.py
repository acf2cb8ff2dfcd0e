"""Writes the reference of the docs from the code: params, commands, files and the functions for notebooks."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from textwrap import dedent, indent
from typing import Any, get_args

import refit
from refit.config.schema import params_schema, unit_of

ROOT = Path(__file__).resolve().parents[2]
GENERATED = "*Generated from the code of this release.*\n"


def pages() -> dict[str, str]:
    """The text of each page of the reference, by its place in the site."""
    return {
        "reference/params.md": params_page(),
        "reference/commands.md": commands_page(),
        "reference/stored-files.md": stored_files_page(),
        "reference/api.md": api_page(),
    }


def params_page() -> str:
    """Every key of `params.yaml` with its type, default, unit and meaning, a table for each section."""
    schema = params_schema()
    lines = [
        "# params.yaml",
        GENERATED,
        "Every key is checked: an unknown one is an error that names the nearest known key. "
        "`params.schema.json` says the same to an editor.",
    ]
    for name, field in schema["properties"].items():
        lines += _section(schema, name, field, level=2)
    problems = [
        rule["then"]["properties"]["problem"]["anyOf"][0]["$ref"] for rule in schema["$defs"]["TrainParams"]["allOf"]
    ]
    lines += ["## train.problem", "The options of a kind of problem, where `train.task` is one that has some."]
    for name, ref in zip(_tasks_with_options(schema), problems, strict=True):
        lines += _section(schema, f"train.problem ({name})", {"$ref": ref}, level=3)
    return "\n\n".join(lines) + "\n"


def _tasks_with_options(schema: dict[str, Any]) -> Iterator[str]:
    return (rule["if"]["properties"]["task"]["const"] for rule in schema["$defs"]["TrainParams"]["allOf"])


def _section(schema: dict[str, Any], path: str, field: dict[str, Any], *, level: int) -> Iterator[str]:
    parts = [schema["$defs"][reference.rpartition("/")[2]] for reference in _references(field)]
    if len(parts) > 1:
        for part, reference in zip(parts, _references(field), strict=True):
            kind = part["properties"]["kind"]["const"]
            yield from _section(schema, f"{path} ({kind})", {"$ref": reference}, level=level)
        return
    part = parts[0]
    yield f"{'#' * min(level, 4)} {path}"
    if description := (part.get("description") or field.get("description")):
        yield _sentence(description.partition("\n\n")[0])
    rows = ["| key | type | default | unit | meaning |", "| --- | --- | --- | --- | --- |"]
    inner = []
    for key, each in part["properties"].items():
        unit, meaning = unit_of(each) or "", each["description"].partition(" (unit: ")[0]
        default = (
            "*required*"
            if key in part.get("required", ())
            else f"`{json.dumps(each['default'])}`"
            if "default" in each
            else ""
        )
        if key == "column" and path == "featurize.label":
            default = "*required, but for problems without labels*"
        rows.append(f"| `{key}` | {_cell(_type(each))} | {_cell(default)} | {unit} | {_cell(meaning)} |")
        if _references(each):
            inner.append((key, each))
    yield "\n".join(rows)
    for key, each in inner:
        if (each_path := _path(path, key, each)) not in ("train.problem",):
            yield from _section(schema, each_path, each, level=level + 1)


def _path(path: str, key: str, field: dict[str, Any]) -> str:
    if "items" in field:
        return f"{path}.{key}[]"
    return f"{path}.{key}.NAME" if "anyOf" not in field and "$ref" not in field else f"{path}.{key}"


def _references(field: Any) -> list[str]:
    """The sections that a field holds, alone, in a list or under names; several where one is chosen by its `kind`."""
    if not isinstance(field, dict):
        return []
    if "$ref" in field:
        return [] if field["$ref"].endswith("/JsonValue") else [str(field["$ref"])]
    named = [*field.get("patternProperties", {}).values(), field.get("additionalProperties"), field.get("items")]
    inner = [*field.get("anyOf", ()), *field.get("oneOf", ()), *named]
    return [reference for each in inner for reference in _references(each)]


def _type(field: Any) -> str:
    """The type of a field in words."""
    if not isinstance(field, dict) or str(field.get("$ref", "")).endswith("/JsonValue"):
        return "any"
    if "$ref" in field:
        return "section"
    if "oneOf" in field:
        return "section"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " \\| ".join(f"`{each}`" for each in field["enum"])
    if "anyOf" in field:
        kinds = dict.fromkeys(_type(each) for each in field["anyOf"])
        if kinds.keys() >= {"text", "number", "true or false", "null"}:
            return "value" if not any(each.startswith("list of") for each in kinds) else "value, or list of values"
        return " or ".join(each for each in kinds if (each, "number" in kinds) != ("whole number", True))
    if field.get("type") == "array":
        return f"list of {_type(field.get('items'))}"
    if field.get("type") == "object":
        named = next(iter(field.get("patternProperties", {}).values()), field.get("additionalProperties"))
        return f"names → {_type(named)}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words.get(str(field.get("type")), str(field.get("type", "any"))) + _bounds(field)


def _bounds(field: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return "".join(f", {sign} {field[name]:,}" for name, sign in signs.items() if name in field)


def commands_page() -> str:
    """Every command with its arguments and options."""
    import typer

    from refit.cli.main import app

    top = typer.main.get_command(app)
    panels: dict[str, list[str]] = {}
    for name, command in _commands(top, "refit"):
        panels.setdefault(command.rich_help_panel or "Projects", []).append(_command(name, command))
    lines = ["# Commands", GENERATED, "Options of `refit` itself, before a command:", _options(top)]
    for panel, texts in panels.items():
        lines += [f"## {panel}", *texts]
    return "\n\n".join(lines) + "\n"


def _commands(group: Any, name: str) -> Iterator[tuple[str, Any]]:
    for each, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{name} {each}")
        elif not command.hidden:
            yield f"{name} {each}", command


def _command(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    usage = " ".join([name, *(_placeholder(each) for each in arguments), "[OPTIONS]"])
    return "\n\n".join(
        [f"### {name}", _sentence(inspect.cleandoc(command.help or "")), f"    {usage}", _options(command)]
    )


def _placeholder(argument: Any) -> str:
    word = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")
    return word if argument.required else f"[{word}]"


def _options(command: Any) -> str:
    rows = ["| option | type | default | meaning |", "| --- | --- | --- | --- |"]
    for each in command.params:
        if each.hidden or each.name == "help":
            continue
        is_argument = each.param_type_name == "argument"
        names = _placeholder(each).strip("[]") if is_argument else ", ".join([*each.opts, *each.secondary_opts])
        default = "" if callable(each.default) or each.default is None or each.default is False else f"`{each.default}`"
        kind = "flag" if getattr(each, "is_flag", False) else _word(each.type_descriptor.annotation)
        repeats = ", repeatable" if each.multiple else ""
        required = "*required*" if each.required else default
        rows.append(f"| `{names}` | {_cell(kind)}{repeats} | {required} | {_cell(each.help or '')} |")
    return "\n".join(rows)


def _word(annotation: Any) -> str:
    """The type of an option's value in a word."""
    inner = [each for each in get_args(annotation) if each is not type(None)]
    if inner:
        return _word(inner[0])
    words = {str: "text", int: "whole number", float: "number", Path: "path", bool: "flag"}
    return words.get(annotation, getattr(annotation, "__name__", "text").lower())


def stored_files_page() -> str:
    """Every path that stages and commands share, and what each JSON file holds."""
    from refit.files import artifacts

    comments = _comments(inspect.getsource(artifacts))
    rows = ["| file or folder | name in `refit/files/artifacts.py` | |", "| --- | --- | --- |"]
    for name, value in vars(artifacts).items():
        if name.isupper() and isinstance(value, PurePath):
            rows.append(f"| `{value.as_posix()}` | `{name}` | {_cell(comments.get(name, ''))} |")
    kinds = ["| class | what its file holds |", "| --- | --- |"]
    for path in sorted((ROOT / "refit/schemas").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if (doc := ast.get_docstring(tree)) and path.stem != "__init__":
            kinds.append(f"| `refit/schemas/{path.name}` | {_cell(doc)} |")
    about = "[The files that stages exchange](../files.md) says how each is made, and which columns tables have."
    parts = [
        "# Artifacts",
        GENERATED,
        about,
        "## Paths in a project",
        "\n".join(rows),
        "## What JSON files hold",
        "\n".join(kinds),
    ]
    return "\n\n".join(parts) + "\n"


def _comments(source: str) -> dict[str, str]:
    """The comment behind each constant."""
    lines = (line.partition("  # ") for line in source.splitlines() if " = " in line)
    return {line.partition(" = ")[0]: comment for line, _, comment in lines if comment}


def api_page() -> str:
    """Each function for notebooks and programs with its signature and docstring."""
    intro, _, example = (inspect.getdoc(importlib.import_module("refit.api")) or "").partition("\n\n")
    lines = ["# Python API", GENERATED, intro, indent(example, "    ")]
    for name in ("run", "show", "history", "status", "score", "check_drift", "replay", "explain", "compare", "load"):
        function = getattr(refit, name)
        signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", f"refit.{name}{inspect.signature(function)}")
        lines += [f"## refit.{name}", indent(signature, "    "), _docstring(inspect.getdoc(function) or "")]
    return "\n\n".join(lines) + "\n"


def _docstring(text: str) -> str:
    """A docstring as Markdown: its headings in bold, their items as a list."""
    lines = []
    for line in dedent(text).splitlines():
        if line in ("Args:", "Raises:", "Returns:"):
            lines += [f"**{line[:-1]}**", ""]
        elif (
            line.startswith("    ")
            and not line.startswith("     ")
            and lines
            and any(each.startswith("**") for each in lines)
        ):
            name, colon, words = line.strip().partition(": ")
            lines.append(f"- `{name}`: {words}" if colon else f"  {line.strip()}")
        else:
            lines.append(line)
    return "\n".join(lines)


def _sentence(text: str) -> str:
    text = text.replace("\n", " ").strip()
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", ":")) else f"{text}."


def _cell(text: str) -> str:
    """A text in a cell of a table: on one line, its bars and angle brackets as characters."""
    text = " ".join(text.split())
    return text.replace(" | ", " \\| ").replace("<", "&lt;").replace("->", "→")
