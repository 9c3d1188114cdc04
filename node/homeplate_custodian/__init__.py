"""Homeplate off the device: keys, enrolment, bundles, receiving and opening records, verifying ledgers."""
