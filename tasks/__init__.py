"""The steps that flows chain, one package each."""
