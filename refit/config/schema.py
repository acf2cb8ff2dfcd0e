"""The JSON Schema of `params.yaml`, by which an editor completes and checks it while it is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from refit.config import Params
from refit.config.column_types import SQL_TYPES
from refit.problems import OWN_KINDS, kind_of

__all__ = ["FILE", "first_line", "params_schema", "unit_of", "written"]

FILE = "params.schema.json"
_ARRAYS = r"^\s*(image|vector)\s*\([0-9,\s]+\)\s*$"
Schema = dict[str, Any]  # as pydantic writes it


def first_line(path: str = FILE) -> str:
    """The comment at the top of a `params.yaml` that names its schema to an editor.

    >>> first_line("../../params.schema.json")
    '# yaml-language-server: $schema=../../params.schema.json\\n'
    """
    return f"# yaml-language-server: $schema={path}\n"


def written() -> str:
    """The text of the schema's file."""
    return json.dumps(params_schema(), indent=1) + "\n"


def params_schema() -> Schema:
    """The schema of a whole `params.yaml`, generated from the models that read it.

    It knows keys, types, bounds, units and defaults. Checks that compare several keys, or that need the data, are only
    made by a run.

    >>> params_schema()["$defs"]["DriftParams"]["properties"]["cooldown_days"]["description"]
    'minimum time between two decisions to retrain (unit: days)'
    """
    schema = Params.model_json_schema()
    parts: Schema = schema.pop("$defs")
    _describe_sources(parts)
    _describe_problems(parts)
    parts["LabelParams"]["required"].remove("column")  # null for problems without labels
    task = parts["TrainParams"]["properties"]["task"]
    task["anyOf"] = [{"enum": list(OWN_KINDS)}, {"type": task.pop("type")}]
    documents: list[Schema] = [schema, *parts.values()]
    for each in documents:
        for field in each.get("properties", {}).values():
            if unit := unit_of(field):
                field["description"] += f" (unit: {unit})"
            if "$ref" in field:
                field.pop("default", None)  # that of a section: its keys have theirs
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "params.yaml of Refit"}
    return {**head, **_plain({**schema, "$defs": parts})}


def unit_of(field: Mapping[str, Any]) -> str | None:
    """The unit of a number in the schema, of the numbers of a list or mapping too; None if it has none."""
    for inner in (field, *field.get("anyOf", ()), field.get("items"), field.get("additionalProperties")):
        if isinstance(inner, Mapping) and "unit" in inner:
            return str(inner["unit"])
    for mapped in field.get("patternProperties", {}).values():
        return unit_of(mapped)
    return None


def _describe_sources(parts: Schema) -> None:
    """What a source needs depends on its kind; the type of a column is a word, or an array with its shape."""
    source = parts["SourceParams"]
    source["required"] = ["kind"]
    source["if"] = {"properties": {"kind": {"const": "forecasts"}}}
    source["then"], source["else"] = {"required": ["forecast"]}, {"required": ["columns", "key"]}
    source["properties"]["columns"]["additionalProperties"] = {
        "anyOf": [{"enum": list(SQL_TYPES)}, {"type": "string", "pattern": _ARRAYS}]
    }


def _describe_problems(parts: Schema) -> None:
    """`train.problem` has the options of the kind of problem that `train.task` names."""
    rules = []
    for name in OWN_KINDS:
        options = kind_of(name).options_class
        if options is None:
            continue
        own = options.model_json_schema(ref_template="#/$defs/{model}")
        parts |= own.pop("$defs", {})
        parts[options.__name__] = own
        chosen = {"properties": {"task": {"const": name}}, "required": ["task"]}
        problem = {"anyOf": [{"$ref": f"#/$defs/{options.__name__}"}, {"type": "null"}]}
        rules.append({"if": chosen, "then": {"properties": {"problem": problem}}})
    parts["TrainParams"]["allOf"] = rules


def _plain(node: Any) -> Any:
    """The schema without the titles that pydantic makes of names, closed to names that match no pattern."""
    if isinstance(node, list):
        return [_plain(each) for each in node]
    if not isinstance(node, dict):
        return node
    names = {key: value for key, value in node.items() if key != "title" or not isinstance(value, str)}
    if "gt" in names:  # of a number that may be whole or not, which pydantic leaves in Python's words
        names["exclusiveMinimum"] = names.pop("gt")
    if "patternProperties" in names:
        names["additionalProperties"] = False
    return {key: value if key in ("default", "const") else _plain(value) for key, value in names.items()}
