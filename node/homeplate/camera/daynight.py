"""Day or night, decided from the light that the camera measures. A state machine without clock, camera or lamp.

Two bars and a time keep it from swinging: the infrared lamp that night switches on is light too, and so is a car's.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from homeplate.domain.source import NightSettings

SECOND = 1_000_000_000
HOLD_NS = 10 * SECOND
"""How long the light has to stay beyond a bar: headlights pass in less."""
DWELL_NS = 120 * SECOND
"""How long the camera stays as it is after a change, whatever the light: should the lamp alone lift the light above
the upper bar, the picture is still good for two minutes out of two minutes and ten seconds."""


class Light(StrEnum):
    """What the camera is set for."""

    DAY = "day"
    NIGHT = "night"


@dataclass(frozen=True, slots=True, kw_only=True)
class DayNight:
    """What is known so far.

    Attributes:
        light: what the camera is set for.
        since_ns: when it was set so; None: at the start, which holds nothing back.
        beyond_ns: since when the light has been beyond the bar that changes it; None: it is not.
    """

    light: Light = Light.DAY
    since_ns: int | None = None
    beyond_ns: int | None = None


def judged(state: DayNight, settings: NightSettings, lux: float, now_ns: int) -> DayNight:
    """Return what is known after a measurement; `light` is another where the camera has to be set anew.

    Args:
        state: what was known before.
        settings: the two bars.
        lux: the light, as the camera estimates it.
        now_ns: a counter that does not go back.
    """
    beyond = lux < settings.below_lux if state.light is Light.DAY else lux > settings.above_lux
    if not beyond:
        return replace(state, beyond_ns=None)
    beyond_ns = now_ns if state.beyond_ns is None else state.beyond_ns
    held = now_ns - beyond_ns >= HOLD_NS
    dwelt = state.since_ns is None or now_ns - state.since_ns >= DWELL_NS
    if not (held and dwelt):
        return replace(state, beyond_ns=beyond_ns)
    return DayNight(light=Light.NIGHT if state.light is Light.DAY else Light.DAY, since_ns=now_ns)
