"""The architectures of networks, one file each; `refit.learners.networks.architecture` says what a file defines."""

ARCHITECTURES: dict[str, str] = {  # by the kind of learner; a module is imported only when it is used
    "mlp": "refit.learners.networks.architectures.mlp",
    "cnn": "refit.learners.networks.architectures.cnn",
    "resnet": "refit.learners.networks.architectures.resnet",
    "gru": "refit.learners.networks.architectures.gru",
    "lstm": "refit.learners.networks.architectures.lstm",
    "tcn": "refit.learners.networks.architectures.tcn",
    "text_embedding": "refit.learners.networks.architectures.text_embedding",
    "text_transformer": "refit.learners.networks.architectures.text_transformer",
    "tabular_resnet": "refit.learners.networks.architectures.tabular_resnet",
    "autoencoder": "refit.learners.networks.architectures.autoencoder",
}
