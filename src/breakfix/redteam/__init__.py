"""Red teaming: one attack per file, a dict of them, and the plan of which attack meets which case.

Third parties add attacks by the entry-point group "breakfix.attacks"; `catalogue()` merges them when it is called, and
nothing is loaded at import. To add one here: a file, an entry in ATTACKS; the tests visit every entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from breakfix.core import Attack
from breakfix.errors import ConfigError
from breakfix.redteam.crescendo import Crescendo
from breakfix.redteam.direct import Direct
from breakfix.redteam.encoding import Base64, Leetspeak, Rot13
from breakfix.redteam.many_shot import ManyShot
from breakfix.redteam.past_tense import PastTense
from breakfix.redteam.payload_splitting import PayloadSplitting
from breakfix.redteam.prefix_injection import Prefill, PrefixInjection
from breakfix.redteam.refusal_suppression import RefusalSuppression
from breakfix.redteam.role_play import RolePlay
from breakfix.redteam.templates import Template
from breakfix.redteam.translation import AnswerIn, Translation

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "breakfix.attacks"

ATTACKS: dict[str, Attack] = {
    "direct": Direct(),
    "prefix_injection": PrefixInjection(),
    "prefill": Prefill(),
    "role_play": RolePlay(),
    "hypothetical": Template("hypothetical"),
    "developer_mode": Template("developer_mode"),
    "opposite_day": Template("opposite_day"),
    "fiction": Template("fiction"),
    "two_answers": Template("two_answers"),
    "refusal_suppression": RefusalSuppression(),
    "base64": Base64(),
    "rot13": Rot13(),
    "leetspeak": Leetspeak(),
    "translation": Translation(),
    "answer_in": AnswerIn(),
    "payload_splitting": PayloadSplitting(),
    "past_tense": PastTense(),
    "many_shot": ManyShot(),
    "crescendo": Crescendo(),
}


def catalogue(points: Iterable[EntryPoint] | None = None) -> dict[str, Attack]:
    """ATTACKS and those of installed packages (each entry point an attack, or a class of one without arguments).

    Raises ConfigError where one is no attack or takes a name that is in use.
    """
    from importlib.metadata import entry_points

    found = dict(ATTACKS)
    for point in entry_points(group=GROUP) if points is None else points:
        loaded: Any = point.load()
        attack: Any = loaded() if isinstance(loaded, type) else loaded
        if not isinstance(attack, Attack):
            raise ConfigError(f"{point.value}: not an attack; it needs name, family, persona and __call__(case, rng)")
        if attack.name in found:
            raise ConfigError(f"{point.value}: the attack name {attack.name!r} is in use; give it another")
        found[attack.name] = attack
    return found
