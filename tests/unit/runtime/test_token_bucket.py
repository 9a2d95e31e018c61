from __future__ import annotations

from peernet.runtime.token_bucket import TokenBucket, TokenBuckets


def taken(bucket: TokenBucket, now: float, attempts: int = 100) -> int:
    """How many of so many attempts get a token."""
    return sum(bucket.take(now) for _ in range(attempts))


def test_a_new_bucket_gives_its_burst_and_then_no_more() -> None:
    assert taken(TokenBucket(rate=20, burst=40, now=7), 7) == 40


def test_an_empty_bucket_gains_its_rate() -> None:
    bucket = TokenBucket(rate=20, burst=40, now=0)
    taken(bucket, 0)
    assert taken(bucket, 1) == 20
    assert taken(bucket, 1.04) == 0
    assert taken(bucket, 1.06) == 1


def test_a_bucket_saves_no_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=20, burst=40, now=0)
    taken(bucket, 0)
    assert taken(bucket, 1_000_000) == 40


def test_an_attempt_in_vain_costs_nothing() -> None:
    bucket = TokenBucket(rate=1, burst=1, now=0)
    assert bucket.take(0)
    assert not any(bucket.take(now / 100) for now in range(99))
    assert bucket.take(1)


def test_what_has_happened_is_paid_from_what_was_saved() -> None:
    assert TokenBucket(rate=2000, burst=4000, now=0).spend(0, 4000) == 0


def test_a_debt_is_paid_at_the_rate() -> None:
    bucket = TokenBucket(rate=2000, burst=4000, now=0)
    assert bucket.spend(0, 5000) == 0.5
    assert bucket.spend(0.25, 0) == 0.25
    assert bucket.spend(0.5, 0) == 0
    assert bucket.spend(0.5, 64) == 64 / 2000


def test_every_source_has_a_bucket_of_its_own() -> None:
    buckets = TokenBuckets(rate=1, burst=1, size=10)
    assert buckets.take("one", 0)
    assert not buckets.take("one", 0)
    assert buckets.take("other", 0)


def test_the_source_not_seen_for_longest_is_forgotten() -> None:
    buckets = TokenBuckets(rate=1, burst=1, size=2)
    for source in ("one", "two", "one", "three"):  # "two" is the oldest
        buckets.take(source, 0)
    assert len(buckets) == 2
    assert not buckets.take("one", 0)
    assert buckets.take("two", 0)


def test_a_flood_of_sources_does_not_grow_the_table() -> None:
    buckets = TokenBuckets(rate=1, burst=1, size=100)
    for source in range(10_000):
        buckets.take(source, 0)
    assert len(buckets) == 100
