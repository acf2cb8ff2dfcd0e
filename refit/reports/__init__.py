"""HTML reports and figures, with one theme and shared chart functions."""
