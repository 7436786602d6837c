"""The technician's console: a process of its own on a serial line, which answers when the daemon is hung or dead."""
