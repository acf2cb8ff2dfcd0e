"""`refit ...`: what people and CI type, one file for each group of commands; each imports only what it needs."""
