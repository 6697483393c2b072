from seaway.serve.supervisor.watch import BACK_OFF, Watch

SETTLE = 2.0


def test_files_are_read_once_they_have_not_changed_for_a_while():
    watch = Watch()
    assert not watch.may_load(0.0, SETTLE)  # nothing was seen yet
    for second, fingerprint in enumerate(["a", "ab", "abc"]):
        watch.look(fingerprint, float(second))
        assert not watch.may_load(float(second), SETTLE)
    assert watch.changed
    watch.look("abc", 3.0)
    assert not watch.may_load(3.0, SETTLE)
    watch.look("abc", 4.0)
    assert watch.may_load(4.0, SETTLE)


def test_what_is_whole_from_the_start_was_not_seen_to_change():
    watch = Watch()
    watch.look("a", 0.0)
    watch.look("a", 1.0)
    assert not watch.changed


def test_after_a_failure_other_files_are_tried_once_they_are_settled():
    watch = Watch()
    watch.look("half", 0.0)
    for _ in range(10):
        watch.failed("half", 3.0)
    watch.look("half", 10.0)
    assert not watch.may_load(10.0, SETTLE)
    watch.look("whole", 11.0)
    assert not watch.may_load(11.0, SETTLE)
    watch.look("whole", 13.0)
    assert watch.may_load(13.0, SETTLE)


def test_the_same_files_are_tried_again_ever_more_rarely():
    watch, now, waits = Watch(), 0.0, []
    watch.look("bad", now)
    for _ in range(12):
        watch.failed("bad", now)
        waits.append(watch.due - now)
        assert not watch.may_load(watch.due - 0.01, SETTLE)
        now = watch.due
        assert watch.may_load(now + SETTLE, SETTLE)
    assert waits[:4] == [BACK_OFF[0] * factor for factor in (1, 2, 4, 8)]
    assert waits[-1] == BACK_OFF[1]
    assert sorted(waits) == waits


def test_files_that_ended_a_process_are_left_alone_for_longest():
    watch = Watch()
    watch.look("bad", 0.0)
    watch.failed("bad", 0.0, fatal=True)
    assert not watch.may_load(BACK_OFF[1] - 0.01, SETTLE)
    assert watch.may_load(BACK_OFF[1], SETTLE)
    watch.look("better", 10.0)
    assert watch.may_load(12.0, SETTLE)


def test_what_goes_on_failing_is_logged_once_a_minute():
    watch = Watch()
    assert [watch.to_be_logged(float(second)) for second in (0, 1, 30, 59, 60, 61, 119, 120)] == [
        *(True, False, False, False),
        *(True, False, False, True),
    ]


def test_when_it_is_tried_again_is_said():
    watch = Watch()
    watch.failed("bad", 10.0)
    assert watch.next_try(10.5) == "it is tried again when its files change, or in 2 s"
    assert watch.next_try(99.0) == "it is tried again when its files change, or in 1 s"
