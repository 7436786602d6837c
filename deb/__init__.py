"""The box's Debian package: ``python -m deb``, as ``make deb`` does. What goes where stands in ``places``."""
