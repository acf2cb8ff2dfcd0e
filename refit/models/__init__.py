"""Registered models as steps use them: the incumbent, checked local copies, verification, export, runs."""
