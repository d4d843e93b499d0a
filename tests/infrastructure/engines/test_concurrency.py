import pytest

from benchlib.infrastructure.engines.concurrency import FIRST_REQUESTS, ConcurrencyLimiter


class Engine:
    """Answers `per_second(requests in flight)` requests of 64 items, on a clock of its own."""

    def __init__(self, limiter, per_second):
        self.limiter = limiter
        self.per_second = per_second
        self.now = 100.0

    def answer(self, n_requests, *, in_flight=None):
        for _ in range(n_requests):
            busy = self.limiter.concurrency if in_flight is None else in_flight
            self.now += 1 / self.per_second(busy)
            self.limiter.answered(64, busy / self.per_second(busy), busy, self.now)


def test_requests_grow_while_they_pay_and_stay_where_they_do_not():
    limiter = ConcurrencyLimiter(max_concurrency=64, max_batch_size=64)
    engine = Engine(limiter, lambda busy: 20 * min(busy, 16))
    assert limiter.concurrency == FIRST_REQUESTS == 4
    engine.answer(500)
    assert limiter.concurrency == 16
    engine.answer(100)
    assert limiter.concurrency == 16


def test_requests_grow_to_the_limit_and_no_further():
    limiter = ConcurrencyLimiter(max_concurrency=24, max_batch_size=64)
    engine = Engine(limiter, lambda busy: 20 * busy)
    engine.answer(2_000)
    assert limiter.concurrency == 24


def test_growth_is_tried_again_later():
    limiter = ConcurrencyLimiter(max_concurrency=64, max_batch_size=64)
    engine = Engine(limiter, lambda busy: 100 * min(busy, 4))
    engine.answer(400)
    assert limiter.concurrency == 4
    engine.per_second = lambda busy: 100 * busy
    engine.answer(20_000)
    assert limiter.concurrency == 64


def test_what_is_not_kept_busy_does_not_grow():
    limiter = ConcurrencyLimiter(max_concurrency=64, max_batch_size=64)
    Engine(limiter, lambda busy: 20 * busy).answer(500, in_flight=2)
    assert limiter.concurrency == 4


def test_a_refusal_halves_once_for_all_that_was_in_flight():
    limiter = ConcurrencyLimiter(max_concurrency=64, max_batch_size=64)
    engine = Engine(limiter, lambda busy: 20 * busy)
    engine.answer(2_000)
    for at in (0.0, 0.1, 0.2):
        limiter.overloaded(engine.now + at)
    assert limiter.concurrency == 32
    limiter.overloaded(engine.now + 1.5)
    assert limiter.concurrency == 16
    for at in range(2, 20):
        limiter.overloaded(engine.now + 2 * at)
    assert limiter.concurrency == 1


@pytest.mark.parametrize(("running", "waiting", "requests"), [(256, 300, 48), (256, 100, 64)])
def test_a_long_queue_takes_a_quarter(running, waiting, requests):
    limiter = ConcurrencyLimiter(max_concurrency=64, max_batch_size=64)
    Engine(limiter, lambda busy: 20 * busy).answer(2_000)
    limiter.queue_seen(running, waiting)
    assert limiter.concurrency == requests


def test_an_address_that_was_lost_starts_over():
    limiter = ConcurrencyLimiter(max_concurrency=64, max_batch_size=64)
    Engine(limiter, lambda busy: 20 * busy).answer(2_000)
    limiter.connection_lost()
    assert limiter.concurrency == FIRST_REQUESTS


def test_the_size_of_a_request_follows_its_time():
    limiter = ConcurrencyLimiter(max_concurrency=4, max_batch_size=64)
    sizes = []
    for number in range(5):
        limiter.answered(limiter.batch_size, 0.1, 1, number)
        sizes.append(limiter.batch_size)
    assert sizes == [16, 32, 64, 64, 64]
    limiter.answered(64, 3.0, 1, 5)
    assert limiter.batch_size == 64
    limiter.answered(64, 9.0, 1, 6)
    assert limiter.batch_size == 32
    limiter.answered(64, 9.0, 1, 7)  # sent before the size shrank
    assert limiter.batch_size == 32
