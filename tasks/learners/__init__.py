"""Where learners lay before they moved to `refit.learners`: files of projects and stored models still name it."""

from refit.learners import CurvePoint, Declaration, FitReport, Learner, Spec, load, make

__all__ = ["CurvePoint", "Declaration", "FitReport", "Learner", "Spec", "load", "make"]
