"""What people do with a project besides running it: replay, cross-validation, reproduction, deletion."""
