"""The order in which rows are learnt."""

import random
from collections import Counter

from breakfix.train.order import Stratified, stratified

KINDS = ["harmful"] * 54 + ["twin"] * 62 + ["plain"] * 84
LENGTHS = [random.Random(i).randint(40, 120) for i in range(200)]


def batches(order, size=16):
    return [order[at : at + size] for at in range(0, len(order), size)]


def test_every_batch_has_the_shares_of_the_whole():
    order = stratified(KINDS, LENGTHS, 16, random.Random(0))
    assert sorted(order) == list(range(200))
    for batch in batches(order)[:-1]:
        found = Counter(KINDS[i] for i in batch)
        assert abs(found["harmful"] - 4.32) < 2 and abs(found["twin"] - 4.96) < 2 and abs(found["plain"] - 6.72) < 2
    assert len(batches(order)[-1]) == 200 % 16


def test_rows_of_a_batch_are_of_like_length_and_batches_in_drawn_order():
    order = stratified(KINDS, LENGTHS, 16, random.Random(0))
    spans = [max(LENGTHS[i] for i in b) - min(LENGTHS[i] for i in b) for b in batches(order)[:-1]]
    assert max(spans) < 30  # of 80
    means = [sum(LENGTHS[i] for i in b) / 16 for b in batches(order)[:-1]]
    assert means != sorted(means) and means != sorted(means, reverse=True)


def test_an_epoch_has_an_order_of_its_own_that_is_found_again():
    one, two = Stratified(KINDS, LENGTHS, 16, 7), Stratified(KINDS, LENGTHS, 16, 7)
    first = list(one)
    assert len(one) == 200 and first == list(two)
    one.set_epoch(1)
    two.set_epoch(1)
    assert list(one) == list(two) != first
    assert {*map(frozenset, batches(list(one)))} != {*map(frozenset, batches(first))}  # other rows together, too
    assert list(Stratified(KINDS, LENGTHS, 16, 8)) != first


def test_few_rows_and_one_kind():
    assert sorted(stratified(["plain"] * 3, [5, 5, 5], 16, random.Random(0))) == [0, 1, 2]
    assert stratified([], [], 16, random.Random(0)) == []
    assert sorted(stratified(["harmful"] * 32, list(range(32)), 16, random.Random(0))) == list(range(32))
