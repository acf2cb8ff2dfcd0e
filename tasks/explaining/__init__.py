"""Why a model predicts what it does: how predictions follow a feature, and what each feature adds to one of them."""
