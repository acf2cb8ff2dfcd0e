"""`refit init`: reads a table and writes a project that runs without further editing."""
