"""Decisions, as pure functions: no clock, no randomness, no waiting, standard library only."""
