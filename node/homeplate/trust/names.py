"""Whether a legal name can be that of a state's own public agency, or whose name it is. Pure.

A name proves nothing; these rules catch a registry's mistake and a lie that nobody troubled to dress up. What a name
cannot tell (a city of another state, a company that calls itself a department) is for the registry's signature to say
(docs/decisions/0062-who-can-be-written-down.md).
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

STATES = {
    "US-AL": "Alabama", "US-AK": "Alaska", "US-AZ": "Arizona", "US-AR": "Arkansas", "US-CA": "California",
    "US-CO": "Colorado", "US-CT": "Connecticut", "US-DE": "Delaware", "US-DC": "District of Columbia",
    "US-FL": "Florida", "US-GA": "Georgia", "US-HI": "Hawaii", "US-ID": "Idaho", "US-IL": "Illinois",
    "US-IN": "Indiana", "US-IA": "Iowa", "US-KS": "Kansas", "US-KY": "Kentucky", "US-LA": "Louisiana",
    "US-ME": "Maine", "US-MD": "Maryland", "US-MA": "Massachusetts", "US-MI": "Michigan", "US-MN": "Minnesota",
    "US-MS": "Mississippi", "US-MO": "Missouri", "US-MT": "Montana", "US-NE": "Nebraska", "US-NV": "Nevada",
    "US-NH": "New Hampshire", "US-NJ": "New Jersey", "US-NM": "New Mexico", "US-NY": "New York",
    "US-NC": "North Carolina", "US-ND": "North Dakota", "US-OH": "Ohio", "US-OK": "Oklahoma", "US-OR": "Oregon",
    "US-PA": "Pennsylvania", "US-RI": "Rhode Island", "US-SC": "South Carolina", "US-SD": "South Dakota",
    "US-TN": "Tennessee", "US-TX": "Texas", "US-UT": "Utah", "US-VT": "Vermont", "US-VA": "Virginia",
    "US-WA": "Washington", "US-WV": "West Virginia", "US-WI": "Wisconsin", "US-WY": "Wyoming",
}  # fmt: skip
"""The name of each jurisdiction (ISO 3166-2:US)."""

_TERRITORIES = ("Puerto Rico", "Guam", "American Samoa", "Northern Mariana Islands", "Virgin Islands")


class Misfit(NamedTuple):
    """Why a name is no public agency's of this state: a short code, and the sentence's end after the name."""

    code: str
    why: str


_FEDERAL = re.compile(
    r"\b(federal|united states|u\.?\s?s\.?|customs and border|border patrol|immigration and customs"
    r"|citizenship and immigration|department of homeland security|homeland security investigations"
    r"|enforcement and removal operations|drug enforcement administration|marshals service|secret service|coast guard"
    r"|national park service|forest service|fish and wildlife service|postal inspection service|internal revenue"
    r"|transportation security administration|alcohol, tobacco|bureau of prisons|bureau of indian affairs"
    r"|bureau of land management|bureau of reclamation|corps of engineers|provost marshal|military police)(?!\w)",
    re.IGNORECASE,
)
_FEDERAL_ACRONYM = re.compile(r"\b(FBI|DEA|CBP|USBP|DHS|HSI|ATF|ICE|ERO|USCIS|USMS|NCIS|USPIS|USSS|TSA)\b")
_FORCE = r"(naval|navy|army|air force|marine corps|space force)"
_MILITARY = re.compile(
    rf"\b({_FORCE}\b(\W+\w+){{0,2}}\W+(base|station|police|depot|installation|command|academy|hospital|shipyard|reserve"
    rf"|garrison|security|criminal|intelligence)|(department|secretary) of the {_FORCE}|joint base)\b",
    re.IGNORECASE,
)
# The federal departments that a name means where it gives no state. Others (transportation) are cities' own, too.
_CABINET = r"(department|dept\.?) of (justice|defense|war|the interior|the treasury|veterans affairs)\b"

_TRIBAL = re.compile(
    r"\b(nation|tribes?|tribal|rancheria|band of|pueblo of|native village|indians|indian (community|reservation))\b",
    re.IGNORECASE,
)

# What follows a state's name where the body is the state's own. Not `county`, `city`, `township`, `beach`, `police`:
# Nevada County, Delaware City and the police of Oregon (Ohio) are local.
_OF_A_STATE = (
    r"(department|dept|state|highway|bureau|division|attorney|office|rangers|national guard|commission|parks|game|fish"
    r"|gaming|alcoholic|alcohol)"
)
_OF = r"(state|commonwealth|university|attorney general)"

_ASSOCIATION = re.compile(r"\bassociation\b", re.IGNORECASE)
_PRIVATE = re.compile(
    r"\b(inc|incorporated|llc|llp|ltd|limited|corp|corporation|company|foundation|association|holdings|technologies"
    r"|solutions|homeowners)\b",
    re.IGNORECASE,
)
_PUBLIC = re.compile(
    r"\b(police|sheriffs?|departments?|city|county|counties|cities|towns?|villages?|townships?|boroughs?|parish|district"
    r"|authority|patrol|university|college|state|commonwealth|agency|commission|probation|marshals?|attorney|constables?"
    r"|bureau|division|board|courts?|transit|ports?|schools?|governments?|council|office|public safety|public works"
    r"|corrections|prosecutor|troopers|airports?|regents|governor|legislature|assembly|senate|municipality"
    r"|national guard)\b",
    re.IGNORECASE,
)


def misfit(name: str, jurisdiction: str, *, subdivision: bool) -> Misfit | None:
    """Return why `name` is no public agency's of the state of `jurisdiction` ("US-CA"); None where it may be one.

    Args:
        name: a legal name as the registry signed it.
        jurisdiction: a state's code, which is one of `STATES`.
        subdivision: whether the entry is another political subdivision; a joint powers authority may call itself an
            association (the Association of Bay Area Governments does).
    """
    if _is_federal(name, STATES[jurisdiction]):
        return Misfit("federal", "is a federal name, whatever kind the entry gives")
    if _TRIBAL.search(name):
        return Misfit("other-kind", "is a tribe's name, and a tribe is no agency of a state, whatever kind is given")
    if other := _other_state(name, jurisdiction):
        return Misfit("other-state", f"is a name of {other}'s, not of {jurisdiction}, whatever kind the entry gives")
    if _PRIVATE.search(_ASSOCIATION.sub("", name) if subdivision else name):
        return Misfit("private", "is a private body's name, whatever kind the entry gives")
    return None


def names_a_public_body(name: str) -> bool:
    """Tell whether a word of `name` says what public body it is (police, county, district, ...)."""
    return _PUBLIC.search(name) is not None


def _is_federal(name: str, home: str) -> bool:
    if _FEDERAL.search(name) or _FEDERAL_ACRONYM.search(name) or _MILITARY.search(name):
        return True
    of_home = rf"\b(?:{home}(?: state)?\s+{_CABINET}|(?:state|commonwealth) of {home}\b)"
    return bool(re.search(rf"\b{_CABINET}", name, re.IGNORECASE)) and not re.search(of_home, name, re.IGNORECASE)


def _other_state(name: str, jurisdiction: str) -> str | None:
    """Return the other state whose own body `name` names, or which it gives as the place."""
    if jurisdiction != "US-DC" and re.search(r"\bWashington,?\s+D\.?\s?C\b", name, re.IGNORECASE):
        return STATES["US-DC"]
    others = [state for code, state in STATES.items() if code != jurisdiction]
    return next((other for other in _longest_first([*others, *_TERRITORIES]) if _is_of(other, name)), None)


def _longest_first(states: Iterable[str]) -> list[str]:
    return sorted(states, key=len, reverse=True)  # "West Virginia" is said before "Virginia"


def _is_of(state: str, name: str) -> bool:
    where = state.replace(" ", r"\s+")
    starts = rf"(?:^|[,(/-]\s*)(?:the\s+)?{where}\s+{_OF_A_STATE}\b"
    of = rf"\b{_OF}\s+of\s+{where}\b(?!\s+(?:county|city))"
    place = rf",\s*(?:the\s+)?{where}\s*(?:$|[,(.])"
    return any(re.search(pattern, name, re.IGNORECASE) for pattern in (starts, of, place))
