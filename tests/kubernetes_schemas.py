"""Checks Kubernetes objects against the models of Kubernetes' own client, which are made from the API's description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kubernetes_asyncio import client

_SCALARS: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "object": object}


def model_of(document: dict[str, Any]) -> str:
    """The model of an object, from its `apiVersion` and `kind`.

    >>> model_of({"apiVersion": "apps/v1", "kind": "Deployment"})
    'V1Deployment'
    """
    return document["apiVersion"].rpartition("/")[2].capitalize() + document["kind"]


def problems(document: Any, kind: str, where: str = "") -> Iterator[str]:
    """Each field that the API does not have, whose value is of another type, or that it misses.

    >>> list(problems({"podSelector": {}, "ingres": []}, "V1NetworkPolicySpec"))
    ['.ingres is no field of V1NetworkPolicySpec']
    >>> list(problems({"ports": [{"containerPort": "80"}]}, "V1Container"))
    ['.ports[0].containerPort is no int', '.: Invalid value for `name`, must not be `None`']
    """
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        if not isinstance(document, list):
            yield f"{where} is no list"
            return
        for position, each in enumerate(document):
            yield from problems(each, inner[1], f"{where}[{position}]")
    elif inner := re.fullmatch(r"dict\((.+), (.+)\)", kind):
        for key, value in document.items():
            yield from problems(value, inner[2], f"{where}.{key}")
    elif kind in _SCALARS:
        if not isinstance(document, _SCALARS[kind]):
            yield f"{where} is no {kind}"
    elif not isinstance(document, dict):
        yield f"{where} is no {kind}"
    else:
        model = getattr(client, kind)
        fields = {name: attribute for attribute, name in model.attribute_map.items()}
        for name in document.keys() - fields.keys():
            yield f"{where}.{name} is no field of {kind}"
        known = {fields[name]: value for name, value in document.items() if name in fields}
        for attribute, value in known.items():
            yield from problems(value, model.openapi_types[attribute], f"{where}.{model.attribute_map[attribute]}")
        try:
            model(**known)
        except ValueError as error:  # a required field is missing, or a value is out of its range
            yield f"{where or '.'}: {error}"
