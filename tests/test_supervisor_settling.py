"""When a source has come to rest: facts with a made-up clock, no files."""

from __future__ import annotations

from changeover.supervisor.digest import Fingerprint, Keys
from changeover.supervisor.settling import Candidate, Settling, Sight, Trouble

A, B, C = (Fingerprint(digest=letter * 64, hash=7) for letter in "abc")


def keys(state: int) -> Keys:
    return (("p.py", 1, 1, 1, 1, state),)


def seen(state: int, content: Fingerprint | None = None, ago_s: float = 0.0) -> Sight:
    return Sight(keys=keys(state), fingerprint=content, changed_ago_s=ago_s)


def knowing_a(settle_s: float = 1.0) -> Settling:
    return Settling(settle_s=settle_s, known=A, keys=keys(0))


def test_the_same_state_needs_no_reading_and_no_further_look() -> None:
    settling = knowing_a()
    assert settling.saw(0.0, seen(0)) is None
    assert (settling.look_at, settling.is_reading_due(100.0)) == (None, False)


def test_a_change_is_read_halfway_and_at_the_end_of_settle() -> None:
    settling = knowing_a()
    settling.saw(10.0, seen(1))
    assert (settling.look_at, settling.is_reading_due(10.4)) == (10.5, False)
    assert settling.is_reading_due(10.5)
    assert settling.saw(10.5, seen(1, B)) is None
    assert settling.look_at == 11.0
    assert settling.saw(11.0, seen(1, B)) == Candidate(fingerprint=B, keys=keys(1))


def test_a_candidate_is_reported_once() -> None:
    settling = knowing_a()
    for now, sight in ((0.0, seen(1)), (0.5, seen(1, B)), (1.0, seen(1, B))):
        settling.saw(now, sight)
    assert (settling.saw(2.0, seen(1)), settling.look_at) == (None, None)


def test_another_state_starts_the_wait_again() -> None:
    settling = knowing_a()
    settling.saw(0.0, seen(1))
    settling.saw(0.5, seen(1, B))
    assert settling.saw(0.9, seen(2)) is None
    assert settling.look_at == 1.4


def test_other_bytes_in_the_same_state_start_the_wait_again() -> None:
    settling = knowing_a()
    settling.saw(0.0, seen(1))
    settling.saw(0.5, seen(1, B))
    assert settling.saw(1.0, seen(1, C)) is None
    assert settling.look_at == 2.0
    assert settling.saw(2.0, seen(1, C)) == Candidate(fingerprint=C, keys=keys(1))


def test_a_look_without_reading_does_not_count_as_one() -> None:
    settling = knowing_a()
    settling.saw(0.0, seen(1))
    settling.saw(0.4, seen(1))
    assert (settling.saw(1.0, seen(1, B)), settling.look_at) == (None, 1.0)


def test_touch_is_read_and_is_no_news() -> None:
    settling = knowing_a()
    settling.saw(0.0, seen(1))
    settling.saw(0.5, seen(1, A))
    assert settling.saw(1.0, seen(1, A)) is None
    assert (settling.look_at, settling.trusted) == (None, keys(1))


def test_there_and_back_within_settle_is_no_news() -> None:
    settling = knowing_a()
    settling.saw(0.0, seen(1))
    settling.saw(0.5, seen(1, B))
    settling.saw(0.6, seen(2))
    settling.saw(1.1, seen(2, A))
    assert settling.saw(1.6, seen(2, A)) is None


def test_going_back_after_a_candidate_is_news_again() -> None:
    settling = knowing_a()
    for now, sight in ((0.0, seen(1)), (0.5, seen(1, B)), (1.0, seen(1, B)), (5.0, seen(2))):
        settling.saw(now, sight)
    settling.saw(5.5, seen(2, A))
    assert settling.saw(6.0, seen(2, A)) == Candidate(fingerprint=A, keys=keys(2))


def test_an_equal_trigger_hash_with_another_digest_is_news() -> None:
    settling = Settling(settle_s=1.0, known=Fingerprint(digest="0" * 64, hash=B.hash))
    settling.saw(0.0, seen(1))
    settling.saw(0.5, seen(1, B))
    assert settling.saw(1.0, seen(1, B)) is not None


def test_without_a_known_content_the_first_is_news() -> None:
    settling = Settling(settle_s=1.0)
    settling.saw(0.0, seen(1))
    settling.saw(0.5, seen(1, A))
    assert settling.saw(1.0, seen(1, A)) == Candidate(fingerprint=A, keys=keys(1))


def test_a_late_hint_does_not_make_the_wait_longer() -> None:
    settling = knowing_a()
    settling.saw(10.0, seen(1, ago_s=0.1))
    assert settling.look_at == 10.4


def test_an_old_time_is_believed_a_quarter_of_a_second_and_a_future_one_not_at_all() -> None:
    for ago_s, look_at in ((3600.0, 10.25), (-3600.0, 10.5)):
        settling = knowing_a()
        settling.saw(10.0, seen(1, ago_s=ago_s))
        assert settling.look_at == look_at


def test_without_settle_two_ticks_of_the_file_times_have_to_pass() -> None:
    settling = knowing_a(settle_s=0.0)
    settling.saw(0.0, seen(1, B))
    assert settling.saw(0.039, seen(1, B)) is None
    assert settling.saw(0.04, seen(1, B)) is not None


def test_a_torn_reading_starts_the_wait_again() -> None:
    settling = knowing_a()
    settling.saw(0.0, seen(1))
    settling.saw(0.5, Sight(is_torn=True))
    assert settling.look_at == 1.0
    settling.saw(1.0, seen(2, B))
    assert settling.saw(1.5, seen(2, B)) is None
    assert settling.saw(2.0, seen(2, B)) == Candidate(fingerprint=B, keys=keys(2))


def test_a_gap_shorter_than_settle_is_no_trouble() -> None:
    settling = knowing_a()
    assert settling.saw(0.0, Sight(trouble="gone")) is None
    assert settling.look_at == 1.0
    assert settling.saw(0.9, seen(1)) is None
    assert settling.look_at == 1.4


def test_trouble_that_stays_is_told_once() -> None:
    settling = knowing_a()
    settling.saw(0.0, Sight(trouble="gone"))
    assert settling.saw(1.0, Sight(trouble="gone")) == Trouble(message="gone")
    assert (settling.saw(2.0, Sight(trouble="gone")), settling.look_at) == (None, None)


def test_other_trouble_and_the_same_after_a_recovery_are_told_again() -> None:
    settling = knowing_a()
    told = [
        settling.saw(now, Sight(trouble=words))
        for now, words in ((0.0, "gone"), (1.0, "gone"), (2.0, "denied"), (3.0, "denied"))
    ]
    settling.saw(4.0, seen(0))
    settling.saw(5.0, Sight(trouble="denied"))
    assert told == [None, Trouble(message="gone"), None, Trouble(message="denied")]
    assert settling.saw(6.0, Sight(trouble="denied")) == Trouble(message="denied")


def test_the_same_content_after_trouble_is_no_news() -> None:
    settling = knowing_a()
    settling.saw(0.0, Sight(trouble="gone"))
    settling.saw(1.0, Sight(trouble="gone"))
    settling.saw(2.0, seen(1))
    settling.saw(2.5, seen(1, A))
    assert settling.saw(3.0, seen(1, A)) is None
