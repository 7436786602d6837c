"""One folder a car: ``signals.dbc`` says where the bits are, ``model.toml`` what they mean."""
