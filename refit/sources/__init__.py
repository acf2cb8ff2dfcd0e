"""Where raw rows come from: files, packages, databases and queries, found and read without guessing."""
