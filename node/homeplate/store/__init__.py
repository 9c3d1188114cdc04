"""What is on disk: the spool of sealed records, the ledgers and uplink's delivery log. One writer a file."""
