"""Signals in, answers out: score, explain, save and load."""
