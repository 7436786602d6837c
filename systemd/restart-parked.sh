#!/bin/sh
# Restarts the box if nobody has rented the car. Ends with 1, having done nothing, if somebody has or the box does not say.
if systemctl is-active --quiet amibox.service; then
    /opt/amibox/bin/amibox status --json 2>/dev/null | grep -q '^ "rental": null' || exit 1
    systemctl restart amibox.service
fi
systemctl stop amibox-restart.timer
