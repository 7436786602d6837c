"""The virtual car: devices on ptys, a demo, a replay. Nothing in the product imports this."""
