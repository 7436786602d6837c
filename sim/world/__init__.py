"""Whole towns on virtual time: real boxes, phones and cloud, a broker and people that exist only here, and faults."""
