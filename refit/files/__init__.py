"""Writes files atomically, and reads them within limits."""
