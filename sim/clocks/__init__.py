"""Histories of clocks: boots, lies from the sky, signed times and people at the door, held against true time."""
