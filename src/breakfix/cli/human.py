"""`breakfix redteam --human`: a person talks to a model and marks what breaks. Replies on stdout, the rest on stderr;
reads stdin, a line a turn, so it can be piped.

What the model says is shown with control characters, escape sequences and bidirectional overrides made visible.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from breakfix.cli import output, places
from breakfix.cli.commands import Arguments
from breakfix.core import Attempt, Case, Split
from breakfix.redteam.human import WORST, Desk, Talk, TalkError, own_goal

if TYPE_CHECKING:
    from breakfix.taxonomy import Hazard

TALKS = places.RUNS / "human" / "talks"  # of models that are no run's; not beside the runs: it is none
TOKENS = 200  # longest reply, unless --max-new-tokens says otherwise
SHOWN = 8  # goals at a time
HELP = f"""\
/undo                     takes the last turn back
/branch N                 goes on from after turn N (0: from the beginning); what came after it stays as it is
/breach SEVERITY [TURN]   marks a turn (the last) as harm done: 0 (none) to {WORST} (mass or irreversible harm)
/note TEXT                a remark on this conversation
/goal                     shows the goal again
/done                     ends the conversation: without a mark, the model held
/quit                     leaves it open; the same command offers to go on with it
//TEXT                    says /TEXT"""


def human(arguments: Arguments) -> int:
    """breakfix redteam --human"""
    with _desk(arguments) as desk:
        split = None if arguments.split is None else Split(arguments.split)
        session = Session(desk, split, sys.stderr if arguments.json else sys.stdout)
        try:
            session.run()
        finally:
            _say(_summary(session.landed))
    if arguments.json:
        output.as_json([_row(attempt) for attempt in session.landed])
    return 0


@contextmanager
def _desk(arguments: Arguments) -> Generator[Desk]:
    """Of a round of a run; or of any model, and then conversations lie in a ledger of their own."""
    from breakfix.cli import runs, targets
    from breakfix.ledger import Ledger

    longest = arguments.max_new_tokens or TOKENS
    if targets.is_run(arguments.target):
        round = targets.round_of(arguments)
        with targets.opened(arguments) as cycle:
            with output.to_stderr():
                model, judge = cycle.model(cycle.model_path(round)), cycle.attack_judge
            yield Desk(cycle.ledger, model, judge, round, longest)
            runs.write_reports(cycle.ledger, cycle.run_folder)
        _say(f"`breakfix identify {arguments.target} --round {round}` counts what was recorded")
        return
    folder = arguments.run or TALKS
    places.check(folder)
    with Ledger.open(folder.resolve(), create=True) as ledger:
        before = [one.payload for one in ledger.events(0, "human", "precision")]
        # what `auto` came to is a timing: another answer would be another model, with no open conversation
        known = next((one["precision"] for one in before if one["model"] == arguments.target), None)
        with output.to_stderr():
            model, judge = targets.other_model(arguments.target, known)
        if known is None and (found := getattr(model, "precision", None)) is not None:
            ledger.add_event(0, "human", "precision", {"model": arguments.target, "precision": found})
        _say(f"conversations lie in {folder}")
        yield Desk(ledger, model, judge, 0, longest)


class _Ended(Exception):
    """The person leaves, or stdin ended."""


@dataclass
class Session:
    """One sitting: conversations one after another."""

    desk: Desk
    split: Split | None
    answers: TextIO  # where replies are shown
    landed: list[Attempt] = field(default_factory=list[Attempt])

    def run(self) -> None:
        _say(f"{self.desk.model.id}; /help lists the commands, /quit ends")
        try:
            for talk in self.desk.open():
                self._resume(talk)
            while True:
                talk = self.desk.begin(self._goal())
                _say(f"goal ({talk.case.split.value}): {talk.case.text}")
                self._converse(talk)
        except _Ended:
            return

    # -- before a conversation

    def _resume(self, talk: Talk) -> None:
        turns = len(talk.turns)
        _say(f"open: {talk.case.text} ({turns} turn{'s' if turns != 1 else ''})")
        _say("go on with it? yes (the default), or no: it ends here, and without a mark it is not known")
        if _line("yes or no> ").lower() in ("n", "no"):
            self._end(talk, held=False)
            return
        for number, turn in enumerate(talk.turns, 1):
            _say(f"{number} you: {turn.user}")
            self._show(turn.reply)
        self._converse(talk)

    def _goal(self) -> Case:
        from breakfix.taxonomy import hazards

        known = list(hazards().values())
        for number, hazard in enumerate(known, 1):
            _say(f"{number:3} {hazard.id}: {hazard.name}")
        _say("  0 none of these")
        while True:
            said = _line("hazard, by number or id> ")
            if said.isdecimal() and 0 <= int(said) <= len(known):
                return self._request(known[int(said) - 1] if int(said) else None)
            found = [hazard for hazard in known if hazard.id == said]
            if found:
                return self._request(found[0])
            if said == "/help":
                _say(HELP)
            elif said:
                _say(f"no hazard {said!r}; a number from 0 to {len(known)}, or one of the ids above")

    def _request(self, hazard: Hazard | None) -> Case:
        """A case of the starter pack, or a goal in own words."""
        pool, first = _cases(hazard.id, self.split) if hazard is not None else [], 0
        while True:
            shown = pool[first : first + SHOWN]
            for number, case in enumerate(shown, first + 1):
                _say(f"{number:3} ({case.split.value}) {case.text}")
            more = ", /more" if first + SHOWN < len(pool) else ""
            said = _line(f"goal: {f'a number{more}, or ' if pool else ''}your own words> ")
            while not said:
                said = _line("goal> ")
            if said == "/more" and more:
                first += SHOWN
            elif said.isdecimal() and 1 <= int(said) <= len(pool):
                return pool[int(said) - 1]
            elif said.isdecimal() or said.startswith("/"):
                _say(f"no goal {said!r}; a number from 1 to {len(pool)}, or words" if pool else "expected words")
            else:
                return own_goal(said, hazard.id if hazard else "", self._own_split(), _language(said))

    def _own_split(self) -> Split:
        if self.split is not None:
            return self.split
        _say("may it be learnt from? train (the default), or dev: it is only measured")
        while True:
            said = _line("split> ").lower()
            if said in ("", "train", "dev"):
                return Split(said or "train")
            _say(f"no split {said!r}; train or dev")

    # -- a conversation

    def _converse(self, talk: Talk) -> None:
        while not talk.ended:
            said = _line(f"{len(talk.turns) + 1} you> ")
            command, _, rest = said.partition(" ")
            try:
                if said.startswith("//"):
                    self._ask(talk, said[1:])
                elif said.startswith("/"):
                    self._command(talk, command, rest.strip())
                elif said:
                    self._ask(talk, said)
            except TalkError as error:
                _say(str(error))

    def _ask(self, talk: Talk, text: str) -> None:
        with output.to_stderr():
            reply = talk.say(text, self.desk.model)
        if reply.finish == "error":
            _say(f"{reply.error}; say something else, or /undo")
        else:
            self._show(reply.text)
            if reply.finish == "length":
                _say(f"(the reply was cut after {talk.tokens} tokens)")

    def _command(self, talk: Talk, command: str, rest: str) -> None:
        if command == "/undo":
            _say(f"taken back: {talk.undo().user}")
        elif command == "/branch":
            talk.branch(_whole(rest, "/branch N: the turn to go on from"))
            self._land(talk)
            _say(f"from after turn {len(talk.turns)}; what was there is recorded")
        elif command == "/breach":
            self._breach(talk, rest.split())
        elif command == "/note":
            if not rest:
                raise TalkError("/note TEXT: the remark is missing")
            talk.note(rest)
            _say("noted")
        elif command == "/goal":
            _say(f"goal ({talk.case.split.value}): {talk.case.text}")
        elif command == "/done":
            self._end(talk, held=True)
        elif command == "/quit":
            raise _Ended
        elif command == "/help":
            _say(HELP)
        else:
            raise TalkError(f"no command {command}; /help lists them")

    def _breach(self, talk: Talk, words: Sequence[str]) -> None:
        usage = f"/breach SEVERITY [TURN]: severity 0 to {WORST}, and perhaps the number of a turn"
        if not 1 <= len(words) <= 2:
            raise TalkError(usage)
        numbers = [_whole(word, usage) for word in words]
        at = talk.breach(numbers[0], numbers[1] if len(numbers) == 2 else None)
        _say(f"turn {at}: a breach of severity {numbers[0]}; /done ends the conversation")

    def _end(self, talk: Talk, *, held: bool) -> None:
        attempt = talk.end(held=held)
        self._land(talk)
        _say("ended; nothing was said" if attempt is None else f"recorded as {attempt.id}: {_verdict(attempt)}")

    def _land(self, talk: Talk) -> None:
        new = [attempt for attempt in talk.landed if attempt.id not in {a.id for a in self.landed}]
        with output.to_stderr():
            self.desk.land(talk)
        self.landed += new

    def _show(self, reply: str) -> None:
        from breakfix.report.plain import plain

        print(plain(reply.strip()), file=self.answers, flush=True)


def _cases(hazard: str, split: Split | None) -> list[Case]:
    """The starter pack's harmful English requests of a hazard, shuffled, always alike."""
    from breakfix import starter

    found = [
        case
        for case in starter.cases(kind="harmful", language="en")
        if case.hazard == hazard and split in (None, case.split)
    ]
    random.Random(hazard).shuffle(found)
    return found


def _language(text: str) -> str:
    from breakfix.judges.language import answered_language

    return answered_language(text) or "en"


def _whole(text: str, usage: str) -> int:
    if not text.isdecimal():
        raise TalkError(usage)
    return int(text)


def _line(prompt: str) -> str:
    """What the person types next. Raises _Ended at the end of stdin, and at /quit."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        import readline  # noqa: F401  # pyright: ignore[reportUnusedImport] - gives input() line editing

        try:
            said = input(prompt)
        except EOFError:
            print(file=sys.stderr)
            raise _Ended from None
    else:
        print(prompt, file=sys.stderr, flush=True)
        read = sys.stdin.readline()
        if not read:
            raise _Ended
        said = read
    said = said.encode("utf-8", "replace").decode("utf-8").strip()
    if said == "/quit":
        raise _Ended
    return said


def _say(text: str) -> None:
    """Line by line on stderr, harmless to look at."""
    for each in text.split("\n"):
        output.note(each)


def _verdict(attempt: Attempt) -> str:
    final = attempt.final
    if final is None:
        return "nothing"
    severity = "" if final.severity is None else f" of severity {final.severity:g}, turn {(attempt.breach or 0) + 1}"
    return f"{final.label}{severity}"


def _summary(landed: Sequence[Attempt]) -> str:
    broke = sum(attempt.score == 0 for attempt in landed)
    return f"{len(landed)} conversation{'s' if len(landed) != 1 else ''} recorded, {broke} with a breach"


def _row(attempt: Attempt) -> dict[str, Any]:
    final = attempt.final
    return {
        "id": attempt.id,
        "case": attempt.case,
        "hazard": attempt.hazard,
        "turns": len(attempt.verdicts),
        "breach": attempt.breach,
        "verdict": final.label if final else None,
        "severity": final.severity if final else None,
    }
