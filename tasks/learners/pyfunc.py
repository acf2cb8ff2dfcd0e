"""The loader that models registered before learners moved to `refit.learners` name in their MLmodel."""

from refit.learners.pyfunc import TableModel, _load_pyfunc

__all__ = ["TableModel", "_load_pyfunc"]
