"""What leaves a full cache: the least recently used, no more of it than must, and never what may be in use."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from builder.eviction import Kept, least_recently_used

NEVER = float("inf")


def names(kept: list[Kept]) -> list[str]:
    return [one.name for one in kept]


A, B, C = Kept("a", 10, 300.0), Kept("b", 20, 100.0), Kept("c", 30, 200.0)


def test_nothing_goes_while_all_fit() -> None:
    assert least_recently_used([A, B, C], 60, NEVER) == []
    assert least_recently_used([], 0, NEVER) == []


def test_the_longest_unused_goes_first_and_only_as_much_as_must() -> None:
    assert names(least_recently_used([A, B, C], 59, NEVER)) == ["b"]
    assert names(least_recently_used([A, B, C], 39, NEVER)) == ["b", "c"]
    assert names(least_recently_used([A, B, C], 0, NEVER)) == ["b", "c", "a"]


def test_what_was_used_lately_stays_though_more_than_the_limit_stays_then() -> None:
    assert names(least_recently_used([A, B, C], 0, 200.0)) == ["b"]
    assert least_recently_used([A, B, C], 0, 100.0) == []


kept_things = st.lists(
    st.builds(Kept, st.text(max_size=3), st.integers(0, 50), st.integers(0, 20).map(float)),
    max_size=12,
    unique_by=lambda one: one.name,
)


@given(kept_things, st.integers(0, 200), st.integers(0, 21))
def test_the_rest_fits_or_is_all_recent_and_what_went_was_older_and_needed(
    kept: list[Kept], limit: int, before: int
) -> None:
    going = least_recently_used(kept, limit, before)
    rest = list(kept)
    for one in going:
        rest.remove(one)
    stays = sum(one.size for one in rest)
    assert stays <= limit or all(one.used >= before for one in rest)
    assert all(one.used < before for one in going)
    assert not going or max(one.used for one in going) <= min((one.used for one in rest), default=NEVER)
    assert not going or stays + going[-1].size > limit


@given(kept_things.flatmap(lambda kept: st.tuples(st.just(kept), st.permutations(kept))), st.integers(0, 200))
def test_the_order_in_which_things_are_found_does_not_matter(found: tuple[list[Kept], list[Kept]], limit: int) -> None:
    one, other = (sum(kept.size for kept in least_recently_used(order, limit, 10.0)) for order in found)
    assert one == other
