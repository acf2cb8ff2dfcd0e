"""Contents of stored files for tests that need one: complete, with what the test says."""

from __future__ import annotations

from typing import Any

MOMENTS = [f"2024-0{month}-01T00:00:00Z" for month in (1, 2, 3, 4)]


def features_json(features: list[str], categorical: list[str], **other: Any) -> dict[str, Any]:
    """The content of `features.json` of a table of rows `id` in three monthly windows."""
    spine = {"source": "rows", "key": "id", "features": [{"name": name, "sql": name} for name in features]}
    windows = zip(("train", "validation", "test"), MOMENTS[:-1], MOMENTS[1:], strict=True)
    return {
        "key": "id",
        "task": "binary",
        "classes": [],
        "definitions": {
            "feature_set": {"spine": spine},
            "sources": {"rows": {"table": "rows", "columns": {"id": "id"}}},
        },
        "definitions_digest": "d" * 64,
        "features": features,
        "numeric": [name for name in features if name not in categorical],
        "categorical": categorical,
        "kept": [],
        "split": None,
        "windows": {name: {"start": start, "end": end, "rows": 0, "positive": 0} for name, start, end in windows},
        "labels": {"known": 0, "pending": 0, "none": 0},
        "snapshot": "5" * 64,
        "as_of": MOMENTS[-1],
        "table": {"sha256": "7" * 64, "rows": 0},
        **other,
    }


def learner_json(name: str, kind: str, scores: dict[str, float], **other: Any) -> dict[str, Any]:
    """What `training.json` says of a learner, with the same scores on training and validation rows."""
    return {
        "name": name,
        "kind": kind,
        "params": {},
        "training": scores,
        "validation": scores,
        "threshold": 0.5,
        "calibration": None,
        "seeds": None,
        "folds": [],
        "iterations": None,
        "seconds": 0.5,
        "rows_per_second": 4_800,
        "peak_memory_mb": 1.5,
        "latency_ms": {"p50": 0.5, "p95": 0.7, "p99": 0.7, "calls": 20},
        "latency_1000_ms": {"p50": 1.0, "p95": 1.5, "p99": 1.5, "calls": 3},
        "cpu_seconds_per_1000": 0.001,
        "curve": [],
        "size_curve": [],
        "warnings": [],
        "not_chosen": None,
        "tuning": None,
        "verdict": "fits",
        **other,
    }


def training_json(learners: list[dict[str, Any]], **other: Any) -> dict[str, Any]:
    """The content of `training.json` whose candidate is the first learner."""
    return {
        "learner": learners[0]["name"],
        "task": "binary",
        "classes": [],
        "metric": "roc_auc",
        "seed": 0,
        "model_digest": "a" * 64,
        "threshold": 0.5,
        "intervals": None,
        "seen_until": MOMENTS[2],
        "split": None,
        "inputs": "1" * 64,
        "baseline": {"rate": 0.5},
        "rows": {"train": 0, "validation": 0},
        "refit_rows": 0,
        "started_from": {"version": None},
        "seconds": 1.5,
        "work_seconds": 1.5,
        "learners": learners,
        **other,
    }
