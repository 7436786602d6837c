#!/bin/sh
# The box's command: what the service and a technician start goes through here.
exec /opt/amibox/.venv/bin/amibox "$@"
