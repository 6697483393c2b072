from seaway.serve.supervisor.watch import RETRY_BACKOFF_S, Watch

SETTLE = 2.0


def test_files_are_loaded_once_they_have_settled():
    watch = Watch()
    assert not watch.may_load(0.0, SETTLE)  # nothing observed yet
    for second, fingerprint in enumerate(["a", "ab", "abc"]):
        watch.observe(fingerprint, float(second))
        assert not watch.may_load(float(second), SETTLE)
    assert watch.changed
    watch.observe("abc", 3.0)
    assert not watch.may_load(3.0, SETTLE)
    watch.observe("abc", 4.0)
    assert watch.may_load(4.0, SETTLE)


def test_unchanged_files_do_not_count_as_arriving():
    watch = Watch()
    watch.observe("a", 0.0)
    watch.observe("a", 1.0)
    assert not watch.changed


def test_after_a_failure_changed_files_are_retried_once_they_have_settled():
    watch = Watch()
    watch.observe("half", 0.0)
    for _ in range(10):
        watch.record_failure("half", 3.0)
    watch.observe("half", 10.0)
    assert not watch.may_load(10.0, SETTLE)
    watch.observe("whole", 11.0)
    assert not watch.may_load(11.0, SETTLE)
    watch.observe("whole", 13.0)
    assert watch.may_load(13.0, SETTLE)


def test_unchanged_files_are_retried_with_exponential_backoff():
    watch, now, waits = Watch(), 0.0, []
    watch.observe("bad", now)
    for _ in range(12):
        watch.record_failure("bad", now)
        waits.append(watch.retry_at - now)
        assert not watch.may_load(watch.retry_at - 0.01, SETTLE)
        now = watch.retry_at
        assert watch.may_load(now + SETTLE, SETTLE)
    assert waits[:4] == [RETRY_BACKOFF_S[0] * factor for factor in (1, 2, 4, 8)]
    assert waits[-1] == RETRY_BACKOFF_S[1]
    assert sorted(waits) == waits


def test_files_that_killed_a_process_wait_the_maximum():
    watch = Watch()
    watch.observe("bad", 0.0)
    watch.record_failure("bad", 0.0, killed_process=True)
    assert not watch.may_load(RETRY_BACKOFF_S[1] - 0.01, SETTLE)
    assert watch.may_load(RETRY_BACKOFF_S[1], SETTLE)
    watch.observe("better", 10.0)
    assert watch.may_load(12.0, SETTLE)


def test_a_repeated_failure_is_logged_once_a_minute():
    watch = Watch()
    assert [watch.should_log(float(second)) for second in (0, 1, 30, 59, 60, 61, 119, 120)] == [
        *(True, False, False, False),
        *(True, False, False, True),
    ]


def test_the_next_attempt_in_words():
    watch = Watch()
    watch.record_failure("bad", 10.0)
    assert watch.next_attempt(10.5) == "it is retried when its files change, or in 2 s"
    assert watch.next_attempt(99.0) == "it is retried when its files change, or in 1 s"
