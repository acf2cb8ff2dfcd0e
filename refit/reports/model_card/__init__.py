"""The model card, and the pictures and tables of an evaluation."""
