"""Re-exports `refit.learners` under its former name, which projects' files and stored models still use."""

from refit.learners import CurvePoint, Declaration, FitReport, Learner, Spec, load, make

__all__ = ["CurvePoint", "Declaration", "FitReport", "Learner", "Spec", "load", "make"]
