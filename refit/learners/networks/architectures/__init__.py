"""The architectures of networks, one file each; `refit.learners.networks.architecture` says what a file defines."""

ARCHITECTURES: dict[str, str] = {  # by the kind of learner; a module is imported only when it is used
    "mlp": "refit.learners.networks.architectures.mlp",
    "cnn": "refit.learners.networks.architectures.cnn",
}
