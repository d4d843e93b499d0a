from benchlib.infrastructure.engines.backoff import Backoff


def test_waits_double_up_to_the_limit_and_stay_there():
    backoff = Backoff(0.5, 15.0)
    assert [backoff.seconds(n) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 15, 15]
    assert backoff.seconds(10_000) == 15


def test_what_the_server_asks_for_counts_instead():
    backoff = Backoff(0.5, 15.0)
    assert backoff.seconds(3, retry_after=0.0) == 0
    assert backoff.seconds(1, retry_after=100.0) == 100
