#!/bin/sh
# Does this box belong to a car? Asked before amibox.service starts; if not it stays off, and its journal says why.
file=$(sed -n 's/^provisioning *= *"\(.*\)".*/\1/p' /etc/amibox/box.toml 2>/dev/null)
file=${file:-/var/lib/amibox/provisioning.cbor}
[ -s "$file" ] && exit 0
echo "This box belongs to no car yet: there is no $file. What to do: /usr/share/doc/amibox/docs/fitting.md" >&2
echo "Ce boîtier n'est encore à aucune voiture : $file manque. Que faire : /usr/share/doc/amibox/docs/fitting.md" >&2
exit 1
