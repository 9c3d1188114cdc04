"""Lamps and filters that the kernel drives: names in /sys/class/leds, which a board's overlay binds to a pin.

The kernel's own LED class is the whole driver: one file to write, no library, and the pin keeps its level when the
process ends (docs/cameras.md says how a lamp gets its name).
"""

from pathlib import Path

from homeplate.camera.errors import Reason, SourceError

LEDS = Path("/sys/class/leds")


class Switch:
    """One lamp or filter.

    Args:
        source: the camera's name, for messages.
        name: of the LED.
        folder: where the kernel shows LEDs.
    """

    def __init__(self, source: str, name: str, folder: Path = LEDS) -> None:
        self._source, self._led = source, folder / name

    def set(self, *, on: bool) -> None:
        """Switch it.

        Raises:
            SourceError: it is not there, or may not be written.
        """
        try:
            most = (self._led / "max_brightness").read_text(encoding="ascii").strip()
            (self._led / "brightness").write_text(most if on else "0", encoding="ascii")
        except OSError as error:
            what = f"{self._led}: {error.strerror}; add its overlay, and see that its group may write it"
            raise SourceError(self._source, Reason.SWITCH, what) from error
