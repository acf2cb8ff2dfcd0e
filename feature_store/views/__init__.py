"""Feature sets of the projects in this repository, one module each, named FEATURES in it."""
