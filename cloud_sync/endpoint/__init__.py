"""The commune's side: ingest, store, acknowledge, publish lists, answer over HTTP."""
