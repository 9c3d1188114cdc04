"""Keys, sealed records, their contents, and the retention slots that make them forgettable."""
