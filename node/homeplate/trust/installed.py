"""The installed bundle as a running process sees it: verified once, and anew when another was installed."""

import threading
from pathlib import Path

from homeplate.clock import NANOSECONDS
from homeplate.trust.bundle import Bundle, load_bundle
from homeplate.trust.metadata import TIMESTAMP


class InstalledBundle:
    """Gives the bundle in force. Safe to use from several threads.

    Args:
        folder: the node's bundle folder.
        pseudonym: whose hot list to read, 16 bytes; None reads none.
    """

    def __init__(self, folder: Path, *, pseudonym: bytes | None = None) -> None:
        self._folder, self._pseudonym = folder, pseudonym
        self._seen: tuple[int, int, int] | None = None
        self._bundle: Bundle | None = None
        self._lock = threading.Lock()

    def __call__(self, now_ns: int) -> Bundle:
        """Return the bundle in force at `now_ns` (node time); the same object until it changes.

        Raises:
            TrustError: where the bundle is missing, does not verify, or is past its date.
        """
        with self._lock:
            seen = self._look()
            bundle = self._bundle
            if bundle is None or seen != self._seen or now_ns // NANOSECONDS >= bundle.expires_s:
                bundle = load_bundle(self._folder, now_ns, pseudonym=self._pseudonym)
                self._bundle, self._seen = bundle, seen
            return bundle

    def _look(self) -> tuple[int, int, int] | None:
        """Return what tells one installed bundle from the next: replacing this file is what installs one."""
        try:
            state = (self._folder / TIMESTAMP).stat()
        except OSError:
            return None
        return state.st_ino, state.st_mtime_ns, state.st_size
