"""What the gate says of results whose truth is known."""

import dataclasses
import random
import re
from collections import Counter

import numpy as np
import pytest

from benchmarks.loadgen.queueing import lindley
from seaway.errors import InvalidInput
from seaway.load import gate
from seaway.load.gate import Limits, against, judge, limits, read, verdict
from seaway.load.run import Generator, Plan, Progress, result
from seaway.load.schedule import Schedule
from seaway.load.tally import Tally


def measured(milliseconds, failed=0, wrong=0, rate=0.0, starved=""):
    """A result of answers that took so long, over ten seconds."""
    tally = Tally()
    for i, value in enumerate(milliseconds):
        tally.right(i % 10, value)
    for _ in range(failed):
        tally.fault(0, "HTTP 500", wrong=False)
    for _ in range(wrong):
        tally.fault(0, "WrongAnswer: x", wrong=True)
    made = result(Progress(10.0, total=tally), "http://x", Plan(rate=rate, seconds=10, warmup=0))
    return dataclasses.replace(made, generator=Generator(bottleneck=starved, starved=bool(starved)))


def states(lines):
    return {line.limit: line.state for line in lines}


def test_each_limit_is_kept_or_broken():
    got = measured([10] * 5000, failed=3, wrong=0)
    found = states(judge(got, Limits(failed=0.001, p50_ms=11, p90_ms=9, p99_ms=12, rate=400)))
    assert found == {
        "failed": "pass",
        "wrong": "pass",
        "p50_ms": "pass",
        "p90_ms": "fail",
        "p99_ms": "pass",
        "rate": "pass",
    }
    assert states(judge(got, Limits(rate=501)))["rate"] == "fail"
    assert states(judge(got, Limits()))["failed"] == "fail"
    assert states(judge(measured([1] * 10, wrong=1), Limits()))["wrong"] == "fail"


def test_what_chance_can_make_is_inconclusive():
    spread = random.Random(1)
    close = [spread.gauss(50, 10) for _ in range(400)]
    [line] = [li for li in judge(measured(close), Limits(p50_ms=50.2)) if li.limit == "p50_ms"]
    assert line.state == "inconclusive"
    few = states(judge(measured([1] * 100), Limits(p99_ms=10)))
    assert few["p99_ms"] == "inconclusive"  # one hundred answers tell nothing of the hundredth
    assert states(judge(measured([]), Limits()))["failed"] == "inconclusive"


def test_a_slow_generator_breaks_no_limit():
    got = measured([100] * 5000, starved="it was short of CPU")
    found = states(judge(got, Limits(p50_ms=50, rate=1000)))
    assert found["p50_ms"] == found["rate"] == "inconclusive"


def test_a_rate_that_was_not_even_asked_is_inconclusive():
    assert states(judge(measured([1] * 1000, rate=100), Limits(rate=200)))["rate"] == "inconclusive"


def asked(due, latencies, rate, arrivals="poisson", seconds=10):
    """A result of requests due at `due` (seconds), each answered so many ms later, if that is before the end."""
    tally = Tally()
    for at, ms in zip(due, latencies, strict=True):
        if at + ms / 1000 < seconds:
            tally.right(at + ms / 1000, ms)
            tally.sent(int(at), 0.1)
    plan = Plan(rate=rate, seconds=seconds, warmup=0, arrivals=arrivals)
    return result(Progress(seconds, total=tally), "http://x", plan)


def slow_server(rate=390.0, serves=328.0, seconds=10):
    """A server that serves 328 a second, asked 390: the queue grows, and latency with it."""
    due = np.concatenate(list(Schedule(rate, seconds).due()))
    return asked(due, lindley(due, 1 / serves) * 1000, rate)


def test_a_server_that_is_slower_than_the_rate_breaks_its_limits():
    """328/s against rate=390, and a p99 whose lower bound is seconds against 50 ms: no further time settles that."""
    got = slow_server()
    assert got.requests_per_second == pytest.approx(328, rel=0.02)
    assert "requests were due while all 256 users waited" in got.generator.bottleneck
    assert not got.generator.starved
    found = {line.limit: line for line in judge(got, Limits(rate=390, p50_ms=50, p99_ms=50))}
    assert (found["rate"].state, found["p50_ms"].state, found["p99_ms"].state) == ("fail", "fail", "fail")
    assert found["rate"].text.startswith(f"{got.requests_per_second:.4g} right answers/s, at least 390")
    assert verdict(judge(got, Limits(p99_ms=50))) == "fail"


def test_requests_that_were_never_sent_took_longer_than_any():
    """A server that stands still at the end: those that were answered before were fast, and tell of nothing else."""
    due = [i / 100 for i in range(1000)]
    latencies = [5.0 if at < 9.5 else 60_000.0 for at in due]
    got = asked(due, latencies, 100, "uniform")
    assert got.generator.unsent > 40
    assert got.p99_ms == pytest.approx(5, rel=0.01)
    [line] = [line for line in judge(got, Limits(p99_ms=50)) if line.limit == "p99_ms"]
    assert line.state != "pass"
    assert "or more" in line.text


def test_answers_after_the_end_count_for_when_they_were_due():
    """A server that stands still for two seconds and answers all after the end: it counts as latency, not as rate."""
    tally = Tally()
    for i in range(1000):
        at = i / 100
        tally.sent(int(at), 0.1)
        tally.right(at + 0.005 if at < 8 else 10.5, 5.0 if at < 8 else (10.5 - at) * 1000)
    got = result(Progress(10.0, total=tally), "http://x", Plan(rate=100, seconds=10, warmup=0, arrivals="uniform"))
    assert got.requests_per_second == 80
    assert got.p99_ms > 2000
    assert states(judge(got, Limits(p99_ms=50, rate=99))) == {
        "failed": "pass", "wrong": "pass", "p99_ms": "fail", "rate": "fail",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_a_fast_server_keeps_the_rate_whatever_chance_made_due(seed):
    """Of 200/s Poisson arrivals in ten seconds are 1,900 to 2,100; a server that answers all is no slower for that."""
    due = np.concatenate(list(Schedule(200, 10, seed=seed).due()))
    tally = Tally()
    for at in due:
        tally.right(at + 0.001, 1.0)
        tally.sent(int(at), 0.1)
    got = result(Progress(10.0, total=tally), "http://x", Plan(rate=200, seconds=10, warmup=0, seed=seed))
    [line] = [line for line in judge(got, Limits(rate=199)) if line.limit == "rate"]
    assert line.state == "pass", line.text
    if got.requests_per_second < 199:
        assert "were due, by chance, of 200/s" in line.text


def test_a_rate_that_is_missed_by_what_was_under_way_is_inconclusive():
    due = np.concatenate(list(Schedule(20, 10, arrivals="uniform").due()))
    got = asked(due, [450.0] * len(due), 20, "uniform")
    [line] = [line for line in judge(got, Limits(rate=19.5)) if line.limit == "rate"]
    assert (line.state, "may have been under way" in line.text) == ("inconclusive", True)


def test_a_server_without_a_right_answer_breaks_every_limit_of_latency():
    got = measured([], wrong=500)
    found = {line.limit: line for line in judge(got, Limits(p50_ms=10, p99_ms=50))}
    assert {name: line.state for name, line in found.items()} == {
        "failed": "pass", "wrong": "fail", "p50_ms": "fail", "p99_ms": "fail",
    }  # fmt: skip
    assert found["p99_ms"].text == "no right answer, so no p99_ms; at most 50 allowed"
    assert (got.p50_ms, got.p99_ms, set(got.percentiles.values())) == (None, None, {None})
    assert states(judge(measured([]), Limits(p99_ms=50)))["p99_ms"] == "inconclusive", "nobody was asked"


def test_limits_that_no_server_could_keep_are_refused_before_the_load():
    gate.check(Limits(rate=199), Plan(rate=200))
    gate.check(Limits(rate=1000), Plan(users=8))
    with pytest.raises(InvalidInput, match="limit rate=201 cannot be reached: a rate of 200"):
        gate.check(Limits(rate=201), Plan(rate=200))
    with pytest.raises(InvalidInput, match="asks 125 requests a second on average"):
        gate.check(Limits(rate=150), Plan(rate=200, shape="step", warmup=0))


def test_what_the_stage_makes_of_its_parameters():
    assert gate.of_stage({}, 8, 0, 5) == (Limits(failed=None, wrong=None), Plan(users=8, seconds=5))
    limits, plan = gate.of_stage({"rate": "99", "slower": "20%", "wrong": 0}, 8, 100, 5)
    assert limits == Limits(failed=None, wrong=0, rate=99, slower=0.2)
    assert plan == Plan(users=0, rate=100, seconds=5), "as many users as it takes"


@pytest.mark.parametrize(
    "given, users, rate, seconds, said",
    [
        ({"p98_ms": 1}, 8, 0, 5, "limits: no limit 'p98_ms'; there are failed, wrong, p50_ms"),
        ({"p99_ms": "soon"}, 8, 0, 5, "limits: p99_ms is 'soon': give a number from 0 up"),
        ({"p99_ms": {"at": "most"}}, 8, 0, 5, "limits: p99_ms is {'at': 'most'}: give a number"),
        ({"p50_ms": 5, "p99_ms": 1}, 8, 0, 5, "contradicts it"),
        ({"wrong": 2}, 8, 0, 5, "at most 1"),
        ({"rate": 101}, 8, 100, 5, "limit rate=101 cannot be reached: a rate of 100"),
        ({"slower": "20%"}, 8, 0, 5, "limit slower=0.2 needs a rate"),
        ({}, 8, -1, 5, "--rate must be above 0"),
        ({}, 8, 0, 0, "1 second at least"),
    ],
)
def test_what_the_stage_refuses(given, users, rate, seconds, said):
    with pytest.raises(InvalidInput, match=re.escape(said)):
        gate.of_stage(given, users, rate, seconds)


def test_a_run_that_was_cut_short_is_inconclusive():
    got = dataclasses.replace(measured([1] * 1000), partial=True)
    assert verdict(judge(got, Limits())) == "inconclusive"


def test_the_verdict_is_the_worst_line():
    line = gate.Line
    assert verdict([line("a", "pass", ""), line("b", "inconclusive", "")]) == "inconclusive"
    assert verdict([line("a", "fail", ""), line("b", "inconclusive", "")]) == "fail"
    assert verdict([line("a", "pass", "")]) == "pass"
    assert verdict([]) == "inconclusive"
    assert gate.EXIT == {"pass": 0, "fail": 1, "inconclusive": 3}


def rounds(factor, noise, seed, count=5):
    spread = random.Random(seed)

    def one(scale):
        level = 20 * scale * spread.lognormvariate(0, noise)  # a round's own luck
        return measured([level * spread.lognormvariate(0, 0.3) for _ in range(300)])

    return [(one(1.0), one(factor)) for _ in range(count)]


def sequence(factor, seed, noise=0.1):
    """The verdict after as many rounds as `gate.rounds` would run."""
    pairs = rounds(factor, noise, seed, gate.MOST_ROUNDS)
    for count in range(gate.ROUNDS, gate.MOST_ROUNDS + 1):
        found = verdict(against(pairs[:count], 0.2))
        if found != "inconclusive":
            return found
    return "inconclusive"


def test_forty_comparisons_of_equal_and_of_slower_versions():
    """The bar: of 40 equal pairs at most 2 are judged slower, of 40 that are 50 % slower at least 38."""
    equal = Counter(sequence(1.0, seed) for seed in range(40))
    slower = Counter(sequence(1.5, seed) for seed in range(40))
    assert equal["fail"] <= 2
    assert slower["fail"] >= 38
    assert slower["pass"] == 0


def test_noisy_rounds_are_inconclusive():
    assert verdict(against(rounds(1.3, 0.8, 3), 0.2)) == "inconclusive"
    assert verdict(against(rounds(1.0, 0.1, 3, count=1), 0.2)) == "inconclusive"
    assert verdict(against([(measured([]), measured([1] * 10))] * 5, 0.2)) == "inconclusive"


def test_a_candidate_without_a_right_answer_is_slower_than_any_baseline():
    lines = against([(measured([1] * 10), measured([], wrong=10))] * 5, 0.2)
    assert [line.state for line in lines] == ["fail", "fail"]
    assert "no right answer in 5 of 5 rounds" in lines[0].text


def test_rounds_give_both_the_same_arrivals_and_each_round_others(monkeypatch):
    seeds = []

    def run(url, source, plan, told):
        seeds.append((url, plan.seed, plan.arrivals))
        return measured([10.0] * 300)

    monkeypatch.setattr(gate, "run", run)
    gate.rounds(gate.Target("b", None), gate.Target("c", None), Plan(rate=50, seed=3), 0.2)
    assert sorted(seeds) == [(url, 3 + number, "poisson") for url in "bc" for number in range(gate.ROUNDS)]


def test_rounds_of_a_starved_generator_are_left_out():
    """They would have made a slower version look equal, or an equal one slower."""

    def starved(pair):
        base, one = pair
        return base, dataclasses.replace(one, generator=dataclasses.replace(one.generator, starved=True))

    slower, equal = rounds(1.6, 0.05, 1), rounds(1.0, 0.05, 2)
    assert verdict(against(slower + [starved(pair) for pair in equal], 0.2)) == "fail"
    assert verdict(against(equal + [starved(pair) for pair in slower], 0.2)) == "pass"
    [line, _] = against(slower[:2] + [starved(pair) for pair in equal], 0.2)
    assert (line.state, "in 5 of 7 rounds the load generator was short of CPU" in line.text) == ("inconclusive", True)


def test_limits_from_yaml(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text("failed: 0.1%\nwrong: 0\np99_ms: 50\nrate: 200\nslower: 20%\n")
    assert read(file) == Limits(0.001, 0.0, None, None, None, 50.0, 200.0, 0.2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p99: 50", "no limit 'p99'; there are failed"),
        ("p99_ms: fast", "give a number"),
        ("p99_ms: -1", "give a number"),
        ("p99_ms: .inf", "give a number"),
        ("rate: true", "give a number"),
        ("failed: 5", "a share of all requests"),
        ("p50_ms: 20\np99_ms: 10", "contradicts"),
        ("- 1", "give lines like"),
        ("a: [", "no YAML"),
        ("", "give lines like"),
    ],
)
def test_limits_that_cannot_be_used(tmp_path, text, said):
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read(file)
    with pytest.raises(InvalidInput, match="no limit"):
        limits({"nonsense": 1}, "--limit")
