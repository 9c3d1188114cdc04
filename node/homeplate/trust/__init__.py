"""The signed bundle: who recipients are, what the rules keep, which nodes exist. What does not verify is not used."""
