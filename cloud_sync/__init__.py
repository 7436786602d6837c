"""Documents that cross the box's boundary, their carriers, and the commune's side."""
