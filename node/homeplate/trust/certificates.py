"""What the library raises on a certificate or signing request that it cannot read: most of it is no `ValueError`."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

UNREADABLE = (
    ValueError,
    TypeError,  # a name that is a string of bits (cryptography 50.0.2)
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""To catch around parsing one and asking for its key, names and extensions."""
