"""Brokers: the peer is checked before a byte of application data goes out; a record counts after a good PUBACK."""
