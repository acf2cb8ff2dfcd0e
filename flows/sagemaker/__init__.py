"""Trains on Amazon SageMaker: the stage `train` of a project, in Refit's image, as a training job."""
