"""The usage policy as people read it: parts A to G from the bundle, and how a posted text differs from it.

What the operator promises is quoted; what the node enforces is written from the signed rules, so that a change of the
rules changes the text. Source: California Civil Code 1798.90.51(b). Pure.
"""

import difflib
import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from homeplate.domain.agency import Grant
from homeplate.domain.hold import HOLD_CAP_S
from homeplate.domain.profiles import CAPS
from homeplate.domain.record import DAY_SECONDS
from homeplate.domain.rules import Rule
from homeplate.policy.usage import PARTS
from homeplate.trust.bundle import Bundle
from homeplate.trust.hotlist import MAX_AGE_S

TITLE = "Usage and privacy policy of the licence plate reader"
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|&~])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A heading, the operator's paragraphs, and lines that the bundle's rules say."""

    heading: str
    words: tuple[str, ...]
    enforced: tuple[str, ...]


def sections(bundle: Bundle) -> list[Section]:
    """Return the parts in their order; a blank part says so."""
    enforced = {
        "A": [f"Authorised purpose: {purpose}" for purpose in bundle.purposes],
        "B": [],
        "C": ["Every disclosure and every refusal is a row of the node's ledger.", *_witnesses(bundle)],
        "D": [
            *([_recipient(bundle, grant) for grant in bundle.allowlist] or ["Nothing is shared with anybody."]),
            _recovery(bundle),
        ],
        "E": [],
        "F": ["A read is a lead and no proof; characters that look alike stay with the record as alternatives."],
        "G": _retention(bundle),
    }
    return [
        Section(
            heading=f"{letter}. {about[0].upper()}{about[1:]}",
            words=tuple(
                paragraph
                for name in names
                for paragraph in (getattr(bundle.policy, name).strip() or "Not written yet.").split("\n")
                if paragraph.strip()
            ),
            enforced=tuple(enforced[letter]),
        )
        for letter, (about, names) in PARTS.items()
    ]


def _recipient(bundle: Bundle, grant: Grant) -> str:
    names = {agency.identifier: agency.legal_name for agency in bundle.registry}
    day = datetime.fromtimestamp(grant.expires_s, tz=UTC).date()
    said = f"need: {grant.need}, purpose: {grant.purpose}, until {day}"
    lacks = None if grant.attested else "the grant bears no attestation"
    if grant.identifier not in names:
        lacks = bundle.unregistered.get(grant.identifier, "the registry does not name it")
    if lacks:
        return f"Granted, but refused by the nodes: {grant.identifier}, {said}; {lacks}"
    return f"Recipient: {names[grant.identifier]} ({grant.identifier}), {said}"


def _recovery(bundle: Bundle) -> str:
    # A text does not change from day to day: what a grant's end does to the recovery recipient is said by its line.
    if bundle.recovery is None:
        return "No recovery recipient is named."
    return f"Recovery recipient, who may hold sealed copies of agencies' private keys: {bundle.recovery}"


def _witnesses(bundle: Bundle) -> list[str]:
    if not bundle.witnesses:
        return ["Nobody outside the operator cosigns the ledgers."]
    return [f"Witness who cosigns the ledgers: {witness.name}" for witness in bundle.witnesses]


def _holds(bundle: Bundle) -> str:
    if not bundle.hold_keys:
        return "Nobody can hold records as evidence past these times."
    return (
        f"Records may be held as evidence for a case, {_lasting(HOLD_CAP_S)} at most, by"
        f" {len(bundle.hold_keys)} key(s) that the operator authorised."
    )


def _retention(bundle: Bundle) -> list[str]:
    lines = [_rule(rule) for rule in bundle.rules]
    lines.append("A passage that no rule keeps is counted, and nothing of it is kept.")
    lines.append(f"A hot list stands for {_lasting(MAX_AGE_S)} at most, and each of its entries has an end of its own.")
    lines.append(_holds(bundle))
    if bundle.retention_profile is not None:
        lines.append(f"Retention is capped by {CAPS[bundle.retention_profile].source}.")
    if bundle.retention_reviewed_on:
        lines.append(f"Retention was last reviewed on {bundle.retention_reviewed_on}.")
    return lines


def _rule(rule: Rule) -> str:
    parts = " and ".join(sorted(part.value for part in rule.parts))
    to = ", ".join(rule.recipients)
    return (
        f"Rule {rule.name}: {rule.trigger.value}, {parts}, {rule.storage.name.lower()}, for {to}, "
        f"destroyed after {_lasting(rule.retention_s)}, purpose: {rule.purpose}"
    )


def _lasting(seconds: int) -> str:
    count, unit = (seconds // DAY_SECONDS, "day") if seconds % DAY_SECONDS == 0 else (seconds, "second")
    return f"{count} {unit}" if count == 1 else f"{count} {unit}s"


def markdown(bundle: Bundle) -> str:
    """Return the policy as Markdown; the operator's words carry no markup of their own."""
    lines = [f"# {TITLE}", "", _escaped(_head(bundle)), ""]
    for section in sections(bundle):
        lines += [f"## {section.heading}", ""]
        for paragraph in section.words:
            lines += [_escaped(paragraph), ""]
        lines += [f"- {_escaped(line)}" for line in section.enforced]
        lines += [""] if section.enforced else []
    return "\n".join(lines)


def html_page(bundle: Bundle) -> str:
    """Return the policy as one HTML page without scripts, styles or anything fetched."""
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>{TITLE}</title></head><body>",
        f"<h1>{TITLE}</h1>",
        f"<p>{html.escape(_head(bundle))}</p>",
    ]
    for section in sections(bundle):
        lines.append(f"<h2>{html.escape(section.heading)}</h2>")
        lines += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.words]
        if section.enforced:
            lines += ["<ul>", *(f"<li>{html.escape(line)}</li>" for line in section.enforced), "</ul>"]
    return "\n".join([*lines, "</body></html>", ""])


def differences(posted: str, bundle: Bundle) -> list[str]:
    """Return where a posted text (either form) and the bundle differ, a line each; nothing where they agree.

    A line begins with what is meant: `posted says` or `the bundle says`, and the heading that it stands under.
    """
    rendered = html_page(bundle) if posted.lstrip().lower().startswith("<!doctype") else markdown(bundle)
    ours, theirs = _lines(rendered), _lines(posted)
    found = []
    for tag, i, j, k, end in difflib.SequenceMatcher(a=theirs, b=ours, autojunk=False).get_opcodes():
        if tag != "equal":
            found += [f"{_under(theirs, n)}: posted says: {theirs[n]}" for n in range(i, j)]
            found += [f"{_under(ours, n)}: the bundle says: {ours[n]}" for n in range(k, end)]
    return found


def _head(bundle: Bundle) -> str:
    heard = bundle.policy.meeting_on
    meeting = f" Public meeting: {heard}, {bundle.policy.meeting_address}." if heard else ""
    return f"Operator: {bundle.operator_body}. Who is a recipient is said by: {bundle.registry_body}.{meeting}"


def _escaped(text: str) -> str:
    found = _MARKUP.sub(r"\\\1", text.strip())
    return "\\" + found if found.startswith(("-", "+", "=")) else found


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _under(lines: Iterable[str], number: int) -> str:
    """Return the part that a line stands in."""
    part = "head"
    for line in list(lines)[: number + 1]:
        found = re.match(r"(?:## |<h2>)([A-G])\. ", line)
        part = f"part {found[1]}" if found else part
    return part
