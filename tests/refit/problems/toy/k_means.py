"""A learner of clusters in a file of the project: Lloyd's k-means, then one spread for all clusters."""

from __future__ import annotations

import json

import numpy as np
from toy_clusters import surprise

from refit.learners import Declaration


class KMeans:
    declaration = Declaration(tasks=("clusters",), labels=False, safe_format="json")

    def __init__(self, spec):
        self.spec = spec

    def fit(self, train, label, *, validation=None, iterations=None, progress=None):
        points = self._points(train)
        start = np.random.default_rng(self.spec.seed).permutation(len(points))[: self.spec.params["clusters"]]
        centres = points[start]
        for _ in range(30):
            nearest = ((points[:, None] - centres[None]) ** 2).sum(axis=2).argmin(axis=1)
            centres = np.array(
                [points[nearest == k].mean(axis=0) if (nearest == k).any() else c for k, c in enumerate(centres)]
            )
        self.centres, self.spread = centres, float((points - centres[nearest]).std())

    def predict(self, table):
        return surprise(self._points(table), self.centres, self.spread)

    def save(self, folder):
        (folder / "clusters.json").write_text(json.dumps([self.centres.tolist(), self.spread]))

    @classmethod
    def load(cls, folder, spec):
        learner = cls(spec)
        centres, learner.spread = json.loads((folder / "clusters.json").read_text())
        learner.centres = np.array(centres)
        return learner

    def _points(self, table):
        return np.column_stack([table[name].to_numpy() for name in self.spec.features])
