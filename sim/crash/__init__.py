"""Power cuts at every write: what the store really asks of the disk, and every state a cut may leave there."""
