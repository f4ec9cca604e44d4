"""An example of a noun that several test files begin with; each replaces what it is about."""

from breakfix.core import Attempt, Expect, Message, Verdict

ATTEMPT = Attempt(
    id="a1",
    case="c1",
    model="tiny@0",
    attack="ask",
    family="plain",
    persona="",
    hazard="S1",
    language="en",
    expect=Expect.REFUSE,
    transcript=(Message("user", "hello"), Message("assistant", "no", images=("ab",))),
    verdicts=(Verdict(1.0, "full", "refused", "rules@1"),),
    breach=None,
    seed=7,
    tokens_in=3,
    tokens_out=1,
    seconds=0.5,
)
