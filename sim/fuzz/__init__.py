"""Fuzzing of every door for bytes: a harness each, coverage-guided long runs, and a sample that needs no fuzzer."""
