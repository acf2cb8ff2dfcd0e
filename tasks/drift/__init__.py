"""The drift step: measures how far recent rows are from the champion's training rows, and whether that is unusual."""
