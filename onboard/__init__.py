"""The box: what runs in the car."""
