"""Personal data: addresses and numbers that belong to somebody, found by their form and, where there is one, by their
check digits.

    email   user@host, but for the names that are reserved for examples (RFC 2606)
    phone   +, a country's code and 7 to 14 digits; or (555) 123-4567 and 555-123-4567, but for 555-01xx
    card    13 to 19 digits with a valid Luhn sum, of a known issuer's first digits
    iban    a country's letters, two check digits (mod 97), and the rest
    ip      an address that is routed in public (127.0.0.1, 192.168.1.1 and documentation's are nobody's); IPv6 with ::
            from 2000::/3, where all that is routed is
    ssn     US social security numbers of the ranges that are given out

Names and postal addresses are not looked for: without a model that finds more than it spoils, they are left in, and the
data set's card says so. Masked by default: a dropped row changes the mix, a kept one is learnt by heart.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from breakfix.core import Dropped, Example, Message

Mode = Literal["drop", "mask", "keep"]
_RESERVED = re.compile(r"(?:^|\.)example(?:\.(?:com|org|net|edu))?$|\.(?:test|invalid|localhost|local)$", re.I)
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (  # in this order: a card is no phone
    ("email", re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+[A-Za-z]{2,24}(?![\w-])")),
    ("iban", re.compile(r"(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?!\w)")),
    ("card", re.compile(r"(?<![\w.-])[3-6]\d(?:[ -]?\d){11,17}(?![\w-])")),
    ("ssn", re.compile(r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])")),
    ("ip", re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\.?\w)"
                      r"|(?<![\w:])[23][0-9a-fA-F]{3}:(?:[0-9a-fA-F]{0,4}:){1,6}(?:[0-9a-fA-F]{1,4}|(?<=::))(?!\w)"
                      r"|(?<![\w:])(?:[0-9a-fA-F]{1,4}:){4,7}[0-9a-fA-F]{1,4}(?!\w)")),
    ("phone", re.compile(r"(?<![\w+])\+\d{1,3}(?:[ .-]?\(?\d{1,4}\)?){2,6}(?!\w)"
                         r"|(?<![\w-])(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])")),
)  # fmt: skip


def luhn(digits: str) -> bool:
    """Whether a number of digits has a valid check digit (ISO/IEC 7812)."""
    doubled = [int(d) * (1 + i % 2) for i, d in enumerate(reversed(digits))]
    return sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0


def _iban(text: str) -> bool:
    whole = text.replace(" ", "")
    turned = whole[4:] + whole[:4]
    return 15 <= len(whole) <= 34 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def _public(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_global
    except ValueError:
        return False


def _phone(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    return 8 <= len(digits) <= 15 and digits[-7:-2] != "55501"


_SOUND: dict[str, Callable[[str], bool]] = {
    "email": lambda text: not _RESERVED.search(text.rpartition("@")[2]),
    "iban": _iban,
    "card": lambda text: luhn(re.sub(r"\D", "", text)),
    "ip": _public,
    "phone": _phone,
}


def masked(text: str, found: Counter[str]) -> str:
    """The text with [email], [phone] … in their places; `found` counts them."""
    if not any(character.isdigit() for character in text) and "@" not in text:
        return text

    for what, form in _FORMS:

        def put(match: re.Match[str], what: str = what) -> str:
            if not _SOUND.get(what, bool)(match[0]):
                return match[0]
            found[what] += 1
            return f"[{what}]"

        text = form.sub(put, text)
    return text


class Personal:
    """Masks what is found in the prompt, the reply and the rejected reply, or drops the row. `found` counts it."""

    name = "personal"

    def __init__(self, mode: Mode) -> None:
        self.mode = mode
        self.found: Counter[str] = Counter()

    def __call__(self, examples: Sequence[Example]) -> tuple[list[Example], list[Dropped]]:
        if self.mode == "keep":
            return list(examples), []
        kept: list[Example] = []
        dropped: list[Dropped] = []
        for example in examples:
            found = Counter[str]()
            clean = _clean(example, found)
            self.found += found
            if not found:
                kept.append(example)
            elif self.mode == "mask":
                kept.append(clean)
            else:
                dropped.append(Dropped(example, self.name, f"personal data: {min(found)}"))
        return kept, dropped


def _clean(row: Example, found: Counter[str]) -> Example:
    return replace(
        row,
        prompt=tuple(Message(m.role, masked(m.content, found), m.images) for m in row.prompt),
        reply=masked(row.reply, found),
        rejected=None if row.rejected is None else masked(row.rejected, found),
    )
