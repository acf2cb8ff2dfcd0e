"""The HTML pages that Refit leaves for people: one look, and what charts are drawn with."""
