import pytest

from benchlib.infrastructure.engines.concurrency import FIRST_REQUESTS, Pace


class Engine:
    """Answers `per_second(requests in flight)` requests of 64 items, on a clock of its own."""

    def __init__(self, pace, per_second):
        self.pace = pace
        self.per_second = per_second
        self.now = 100.0

    def answer(self, n_requests, *, in_flight=None):
        for _ in range(n_requests):
            busy = self.pace.requests if in_flight is None else in_flight
            self.now += 1 / self.per_second(busy)
            self.pace.answered(64, busy / self.per_second(busy), busy, self.now)


def test_requests_grow_while_they_pay_and_stay_where_they_do_not():
    pace = Pace(most_requests=64, most_items=64)
    engine = Engine(pace, lambda busy: 20 * min(busy, 16))
    assert pace.requests == FIRST_REQUESTS == 4
    engine.answer(500)
    assert pace.requests == 16
    engine.answer(100)
    assert pace.requests == 16


def test_requests_grow_to_the_limit_and_no_further():
    pace = Pace(most_requests=24, most_items=64)
    engine = Engine(pace, lambda busy: 20 * busy)
    engine.answer(2_000)
    assert pace.requests == 24


def test_growth_is_tried_again_later():
    pace = Pace(most_requests=64, most_items=64)
    engine = Engine(pace, lambda busy: 100 * min(busy, 4))
    engine.answer(400)
    assert pace.requests == 4
    engine.per_second = lambda busy: 100 * busy
    engine.answer(20_000)
    assert pace.requests == 64


def test_what_is_not_kept_busy_does_not_grow():
    pace = Pace(most_requests=64, most_items=64)
    Engine(pace, lambda busy: 20 * busy).answer(500, in_flight=2)
    assert pace.requests == 4


def test_a_refusal_halves_once_for_all_that_was_in_flight():
    pace = Pace(most_requests=64, most_items=64)
    engine = Engine(pace, lambda busy: 20 * busy)
    engine.answer(2_000)
    for at in (0.0, 0.1, 0.2):
        pace.refused(engine.now + at)
    assert pace.requests == 32
    pace.refused(engine.now + 1.5)
    assert pace.requests == 16
    for at in range(2, 20):
        pace.refused(engine.now + 2 * at)
    assert pace.requests == 1


@pytest.mark.parametrize(("running", "waiting", "requests"), [(256, 300, 48), (256, 100, 64)])
def test_a_long_queue_takes_a_quarter(running, waiting, requests):
    pace = Pace(most_requests=64, most_items=64)
    Engine(pace, lambda busy: 20 * busy).answer(2_000)
    pace.queued(running, waiting)
    assert pace.requests == requests


def test_an_address_that_was_lost_begins_anew():
    pace = Pace(most_requests=64, most_items=64)
    Engine(pace, lambda busy: 20 * busy).answer(2_000)
    pace.lost()
    assert pace.requests == FIRST_REQUESTS


def test_the_size_of_a_request_follows_its_time():
    pace = Pace(most_requests=4, most_items=64)
    sizes = []
    for number in range(5):
        pace.answered(pace.items, 0.1, 1, number)
        sizes.append(pace.items)
    assert sizes == [16, 32, 64, 64, 64]
    pace.answered(64, 3.0, 1, 5)
    assert pace.items == 64
    pace.answered(64, 9.0, 1, 6)
    assert pace.items == 32
    pace.answered(64, 9.0, 1, 7)  # sent before the size shrank
    assert pace.items == 32
