"""Keras models as learners: built by a function in a file of the project."""
