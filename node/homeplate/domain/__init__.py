"""Values only: no I/O, no clock, no third-party import but numpy for images."""
