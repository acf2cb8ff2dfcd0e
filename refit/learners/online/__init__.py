"""Learners that learn a stream row by row in time order, and go on from where they stopped."""
