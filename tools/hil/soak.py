"""Heat and memory over time: what the node says of itself, and whether that is within bounds. Pure functions."""

import itertools
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tools.hil.settings import Soak

MOST_BYTES = 64 * 1024
SCRIPT = """
echo uptime "$(cut -d' ' -f1 /proc/uptime)"
echo load "$(cut -d' ' -f1 /proc/loadavg)"
awk '/^MemAvailable:/ {print "available_kb", $2}' /proc/meminfo
for zone in /sys/class/thermal/thermal_zone*/temp; do
    [ -r "$zone" ] && echo temperature "$(cat "$zone" 2>/dev/null)"
done
for cpu in /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq; do
    [ -r "$cpu" ] && echo frequency_khz "$(cat "$cpu")"
done
command -v vcgencmd >/dev/null && echo throttled "$(vcgencmd get_throttled)"
for unit in "$@"; do
    pid=$(systemctl show --property MainPID --value "$unit" 2>/dev/null)
    [ -n "$pid" ] && [ "$pid" != 0 ] || continue
    awk -v unit="$unit" '/^(Rss|Pss):/ {print tolower($1) unit, $2}' "/proc/$pid/smaps_rollup"
done
true
"""
"""Run by the node's sh; the units are its arguments."""
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?\Z")
_NOW_THROTTLED = 0xF
"""Bits of `vcgencmd get_throttled` that say what is the case now: under-voltage, capped, throttled, hot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look at the node.

    Attributes:
        at_s: seconds since the first look, by this machine.
        uptime_s: the node's.
        celsius: of its hottest zone; None where it has none.
        throttled: whether a Raspberry Pi says that it is slowed down or under-powered; None where nothing says so.
        rss_mb: resident memory of each unit's main process that runs.
        share_mb: the same with each page divided among the processes that share it (PSS): what they take together is
            the sum, as it is of a board's memory. This is what bounds are for.
    """

    at_s: float
    uptime_s: float | None = None
    load: float | None = None
    available_mb: float | None = None
    celsius: float | None = None
    frequency_mhz: float | None = None
    throttled: bool | None = None
    rss_mb: tuple[tuple[str, float], ...] = ()
    share_mb: tuple[tuple[str, float], ...] = ()


def parsed(text: str, at_s: float) -> Sample:
    """Read what the script printed; lines that are not understood are passed over."""
    one: dict[str, float] = {}
    zones: list[float] = []
    memory: dict[str, dict[str, float]] = {"rss": {}, "pss": {}}
    throttled: bool | None = None
    for line in text[:MOST_BYTES].splitlines():
        match line.split():
            case ["temperature", value] if _NUMBER.match(value):
                zones.append(float(value) / 1000)
            case [word, value] if word.startswith(("rss:", "pss:")) and _NUMBER.match(value):
                memory[word[:3]][word[4:]] = float(value) / 1024
            case ["throttled", value] if re.match(r"throttled=0x[0-9a-fA-F]{1,8}\Z", value):
                throttled = bool(int(value.partition("=")[2], 16) & _NOW_THROTTLED)
            case [name, value] if _NUMBER.match(value):
                one[name] = float(value)
            case _:
                pass
    kb, khz = one.get("available_kb"), one.get("frequency_khz")
    return Sample(
        at_s=at_s,
        uptime_s=one.get("uptime"),
        load=one.get("load"),
        available_mb=None if kb is None else kb / 1024,
        celsius=max(zones, default=None),
        frequency_mhz=None if khz is None else khz / 1000,
        throttled=throttled,
        rss_mb=tuple(sorted(memory["rss"].items())),
        share_mb=tuple(sorted(memory["pss"].items())),
    )


def by_unit(samples: Sequence[Sample], *, resident: bool = False) -> dict[str, list[tuple[float, float]]]:
    """Return each unit's share of memory over time, or all that is resident of it, as (seconds, MB)."""
    found: dict[str, list[tuple[float, float]]] = {}
    for sample in samples:
        for unit, mb in sample.rss_mb if resident else sample.share_mb:
            found.setdefault(unit, []).append((sample.at_s, mb))
    return found


def faults(samples: Sequence[Sample], soak: Soak, units: Sequence[str]) -> Iterator[str]:
    """Yield each bound that was broken, in words with its number."""
    if not samples:
        yield "the node did not answer once"
        return
    hottest = max((one.celsius for one in samples if one.celsius is not None), default=None)
    if hottest is not None and hottest > soak.most_celsius:
        yield f"{hottest:.1f} degrees are more than {soak.most_celsius:g}"
    slowed = sum(one.throttled is True for one in samples)
    if slowed:
        yield f"slowed down or under-powered at {slowed} of {len(samples)} looks"
    ups = [one.uptime_s for one in samples if one.uptime_s is not None]
    if any(later < earlier for earlier, later in itertools.pairwise(ups)):
        yield "the node booted meanwhile"
    memory, resident = by_unit(samples), by_unit(samples, resident=True)
    for unit in units:
        points = [mb for _, mb in memory.get(unit, [])]
        most = soak.most_mb.get(unit)
        if len(points) < len(samples):
            yield f"{unit} did not run at {len(samples) - len(points)} of {len(samples)} looks"
        if points and most is not None and max(points) > most:
            yield f"{unit} takes {max(points):.0f} MB, more than {most:g}"
        # What is resident: the share also changes as other processes come and go.
        if (grown := growth([mb for _, mb in resident.get(unit, [])])) is not None and grown > soak.most_growth_mb:
            yield f"{unit} grew by {grown:.1f} MB, more than {soak.most_growth_mb:g}"


def growth(points: Sequence[float]) -> float | None:
    """Return by how much the median of the last quarter is above the first one's; None of too few points."""
    quarter = len(points) // 4
    if quarter < 1:
        return None
    return statistics.median(points[-quarter:]) - statistics.median(points[:quarter])
