"""Which candidates go on: figures chosen by hand, neutral names."""

from __future__ import annotations

import json

import pytest

from breakfix.core import Estimate
from breakfix.evaluate.candidates import Candidate, Outcomes, against, dominates, select
from breakfix.stats import nothing, rate

ALL = ("harm", "over_refusal", "capability")  # of five; what no candidate knows is left out


def made(name: str, harm: int, over_refusal: int, capability: int, n: int = 200) -> Candidate:
    """Counts of n."""
    counts = zip(ALL, (harm, over_refusal, capability), strict=True)
    return Candidate(name, {objective: rate(count, n) for objective, count in counts})


def cases(ones: int, n: int = 200) -> Outcomes:
    return {f"c{i}": float(i < ones) for i in range(n)}


def test_one_that_is_better_beyond_chance_and_worse_in_nothing_dominates() -> None:
    loose, tight = made("loose", 100, 40, 104), made("tight", 40, 40, 104)
    found = select([loose, tight])
    assert found.kept == ("tight",)
    [drop] = found.dropped
    assert (drop.name, drop.by) == ("loose", "tight")
    assert drop.reason == "tight is better: harm 20.0% against 50.0%, beyond chance; nothing worse"


def test_a_trade_is_no_domination() -> None:
    """Less harm for more over-refusal: both are on the front, and the bounds order them."""
    timid, bold = made("timid", 20, 120, 104), made("bold", 100, 20, 104)
    found = select([timid, bold])
    assert not found.dropped
    assert found.kept == ("bold", "timid")
    assert against(bold) < against(timid)
    assert against(bold) == pytest.approx(rate(100, 200).high + rate(20, 200).high + 1 - rate(104, 200).low)


def test_a_difference_within_the_intervals_drops_nobody() -> None:
    """50 % and 45 % of 200: the intervals overlap."""
    assert select([made("a", 100, 40, 104), made("b", 90, 40, 104)]).kept == ("b", "a")


def test_the_same_difference_on_the_same_cases_is_beyond_chance() -> None:
    """All ten cases that changed did so in one way: the paired interval leaves out 0."""
    a = Candidate("a", made("a", 100, 40, 104).figures, {"harm": cases(100)})
    b = Candidate("b", made("b", 90, 40, 104).figures, {"harm": cases(90)})
    assert dominates(b, a, ALL)
    assert not dominates(a, b, ALL)
    assert select([a, b]).kept == ("b",)


def test_worse_by_more_than_the_margin_is_enough_to_stay() -> None:
    """Capability 52 % and 48 % of 200 are within chance; whether 4 points were lost is not known, so both are kept."""
    assert set(select([made("a", 100, 40, 104), made("b", 40, 40, 96)]).kept) == {"a", "b"}
    assert select([made("a", 100, 40, 104), made("b", 40, 40, 100)]).kept == ("b",), "two points are as good"


def test_what_is_not_known_decides_nothing() -> None:
    known = made("known", 40, 40, 104)
    blank = Candidate("blank", {**made("blank", 100, 40, 104).figures, "capability": nothing(200)})
    found = select([blank, known])
    assert found.kept == ("known", "blank"), "kept, and last: an unknown figure counts as the worst"
    assert found.unknown == {"known": (), "blank": ("capability",)}


def test_a_figure_of_which_too_little_was_scored_is_not_known() -> None:
    """A model that babbles is harmless on what could be scored: 0 of 20, and 180 not scored."""
    babbles = Candidate("babbles", {**made("babbles", 0, 0, 104).figures, "harm": rate(0, 20, 180)})
    assert select([made("speaks", 60, 40, 104), babbles]).kept == ("speaks", "babbles")


def test_what_no_candidate_knows_is_left_out() -> None:
    a, b = (
        Candidate(n, {o: rate(k, 200) for o, k in (("harm", h), ("over_refusal", 40))})
        for n, h in (("a", 100), ("b", 40))
    )
    assert select([a, b]).kept == ("b",)


def test_of_a_ring_nobody_is_dropped() -> None:
    """Each is better than the next by 3.8 points in one objective, and worse by 1.9, within chance, in the others."""

    def sized(name: str, *values: float) -> Candidate:
        figures = (Estimate(v, v - 0.01, v + 0.01, 10_000) for v in values)
        return Candidate(name, dict(zip(ALL, figures, strict=True)))

    ring = [sized("a", 0.100, 0.119, 0.500), sized("b", 0.138, 0.100, 0.519), sized("c", 0.119, 0.138, 0.538)]
    beaten = {(x.name, y.name) for x in ring for y in ring if x is not y and dominates(x, y, ALL)}
    assert beaten == {("a", "b"), ("b", "c"), ("c", "a")}
    assert set(select(ring).kept) == {"a", "b", "c"}
    outside = sized("outside", 0.01, 0.01, 0.60)
    found = select([*ring, outside])
    assert found.kept == ("outside",)
    assert {drop.by for drop in found.dropped} == {"outside"}


def test_everyday_refusals_and_look_alikes_do_not_hide_each_other() -> None:
    """In a sum of both, 4 points of everyday requests would be gone in the look-alikes that were won."""

    def sized(name: str, over_refusal: int, plain: int) -> Candidate:
        counts = {"harm": 40, "over_refusal": over_refusal, "plain": plain}
        return Candidate(name, {objective: rate(count, 200) for objective, count in counts.items()})

    kind, odd = sized("kind", 60, 2), sized("odd", 20, 16)
    assert not dominates(odd, kind, ("harm", "over_refusal", "plain"))
    assert set(select([kind, odd]).kept) == {"kind", "odd"}


def test_an_everyday_request_refused_counts_twice() -> None:
    a = Candidate("a", {"over_refusal": rate(20, 200), "plain": rate(10, 200)})
    b = Candidate("b", {"over_refusal": rate(30, 200), "plain": rate(4, 200)})
    assert against(a) == pytest.approx(rate(20, 200).high + 2 * rate(10, 200).high)
    assert select([a, b]).kept == ("b", "a")


def test_what_holds_only_when_asked_plainly_is_dominated() -> None:
    """As harmless as the other when asked directly, and not under attack."""

    def sized(name: str, wrapped: int) -> Candidate:
        counts = {"harm": 20, "harm_wrapped": wrapped, "over_refusal": 40}
        return Candidate(name, {objective: rate(count, 96) for objective, count in counts.items()})

    found = select([sized("brittle", 80), sized("firm", 30)])
    assert found.kept == ("firm",)
    assert found.dropped[0].reason.startswith("firm is better: harm under seen attacks 31.2% against 83.3%")


def test_no_more_than_wanted_are_kept_and_the_others_have_a_reason() -> None:
    found = select([made("timid", 20, 120, 104), made("bold", 100, 20, 104), made("even", 60, 70, 104)], most=2)
    assert len(found.kept) == 2
    [drop] = found.dropped
    assert drop.reason == "not dominated, but 3. in order, and 2 are wanted"
    assert {*found.kept, drop.name} == {"timid", "bold", "even"}


def test_the_record_is_plain_json() -> None:
    record = select([made("a", 100, 40, 104), Candidate("b", {"harm": nothing(3)})]).record()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["candidates"]["b"]["harm"]["value"] is None
    assert record["unknown"] == {"b": ["harm", "over_refusal", "capability"]}
    assert record["rule"].startswith("kept: not dominated")


@pytest.mark.parametrize(
    ("candidates", "most", "said"),
    [
        ([], None, "names that differ"),
        ([made("a", 1, 1, 1), made("a", 2, 2, 2)], None, "names that differ"),
        ([Candidate("a", {"speed": rate(1, 2)})], None, "'speed' is no objective"),
        ([made("a", 1, 1, 1)], 0, "most 0"),
    ],
)
def test_what_can_not_be_chosen_from_is_refused(candidates: list[Candidate], most: int | None, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        select(candidates, most)
