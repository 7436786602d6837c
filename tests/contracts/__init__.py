"""One suite on real and simulated adapters."""
