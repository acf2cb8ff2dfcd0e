"""Pretrained transformers of texts, from a Hugging Face folder on disk."""
