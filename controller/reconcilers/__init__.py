"""Shells that read one snapshot, call the planners and carry out what they decide."""
