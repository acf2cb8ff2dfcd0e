"""Re-exports the MLflow loader under its former name, which older registered models use in their MLmodel file."""

from refit.learners.pyfunc import TableModel, _load_pyfunc

__all__ = ["TableModel", "_load_pyfunc"]
