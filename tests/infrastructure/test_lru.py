from benchlib.infrastructure.lru import Lru


def test_what_went_unused_longest_goes_first():
    cache = Lru(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_an_entry_put_again_is_replaced_and_counts_as_new():
    cache = Lru(2)
    for key, value in [("a", 1), ("b", 2), ("a", 3), ("c", 4)]:
        cache.put(key, value)
    assert [cache.get(key) for key in "abc"] == [3, None, 4]


def test_weights_are_bounded_but_the_newest_entry_stays():
    cache = Lru(10, max_weight=5, weigh=len)
    for text in ("aa", "bb", "c"):
        cache.put(text, text)
    assert [cache.get(text) for text in ("aa", "bb", "c")] == ["aa", "bb", "c"]
    cache.put("dd", "dd")  # 7 > 5: "aa" goes, which leaves 5
    assert [cache.get(text) for text in ("aa", "bb", "c", "dd")] == [None, "bb", "c", "dd"]
    cache.put("too long", "too long")
    assert [cache.get(text) for text in ("dd", "too long")] == [None, "too long"]


def test_entries_are_dropped_one_by_one_or_all_at_once():
    cache = Lru(3)
    for key in "abc":
        cache.put(key, key)
    cache.drop("a")
    cache.drop("never there")
    assert [cache.get(key) for key in "abc"] == [None, "b", "c"]
    cache.clear()
    assert cache.get("b") is None
