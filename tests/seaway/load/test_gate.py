"""The gate's verdicts on results with a known truth."""

import dataclasses
import json
import random
import re
from collections import Counter

import numpy as np
import pytest

from benchmarks.loadgen.queueing import lindley
from seaway.errors import InvalidInput
from seaway.load import formatting, gate, report, result_files
from seaway.load.config import LoadConfig
from seaway.load.counters import Counters
from seaway.load.gate import Limits, compare_with_baseline, evaluate_limits, parse_limits, read_limits, verdict
from seaway.load.progress import Progress
from seaway.load.result import GeneratorStats, summarize
from seaway.load.schedule import Schedule


def measured(latencies_ms, failed=0, wrong=0, rate=0.0, starved=""):
    """A result of ten seconds with correct responses of these latencies."""
    counters = Counters()
    for i, value in enumerate(latencies_ms):
        counters.record_correct(i % 10, value)
    for _ in range(failed):
        counters.record_error(0, "HTTP 500", wrong=False)
    for _ in range(wrong):
        counters.record_error(0, "wrong response: x", wrong=True)
    config = LoadConfig(rate=rate, duration_s=10, warmup_s=0)
    result = summarize(Progress(10.0, total=counters), "http://x", config)
    return dataclasses.replace(result, generator=GeneratorStats(bottleneck=starved, starved=bool(starved)))


def states(limit_results):
    return {one.limit: one.state for one in limit_results}


def test_each_limit_is_met_or_violated():
    result = measured([10] * 5000, failed=3, wrong=0)
    evaluated = states(evaluate_limits(result, Limits(failed=0.001, p50_ms=11, p90_ms=9, p99_ms=12, rate=400)))
    assert evaluated == {
        "failed": "pass",
        "wrong": "pass",
        "p50_ms": "pass",
        "p90_ms": "fail",
        "p99_ms": "pass",
        "rate": "pass",
    }
    assert states(evaluate_limits(result, Limits(rate=501)))["rate"] == "fail"
    assert states(evaluate_limits(result, Limits()))["failed"] == "fail"
    assert states(evaluate_limits(measured([1] * 10, wrong=1), Limits()))["wrong"] == "fail"


def test_what_chance_can_explain_is_inconclusive():
    generator = random.Random(1)
    close = [generator.gauss(50, 10) for _ in range(400)]
    assert states(evaluate_limits(measured(close), Limits(p50_ms=50.2)))["p50_ms"] == "inconclusive"
    few = states(evaluate_limits(measured([1] * 100), Limits(p99_ms=10)))
    assert few["p99_ms"] == "inconclusive"  # one hundred responses do not determine p99
    assert states(evaluate_limits(measured([]), Limits()))["failed"] == "inconclusive"


def test_a_starved_generator_violates_no_limit():
    result = measured([100] * 5000, starved="it lacked CPU")
    evaluated = states(evaluate_limits(result, Limits(p50_ms=50, rate=1000)))
    assert evaluated["p50_ms"] == evaluated["rate"] == "inconclusive"


def test_a_limit_above_the_sent_rate_is_inconclusive():
    assert states(evaluate_limits(measured([1] * 1000, rate=100), Limits(rate=200)))["rate"] == "inconclusive"


def simulated(due, latencies_ms, rate, arrivals="poisson", duration_s=10):
    """A result of requests due at `due` (seconds), each with a response after its latency, if before the end."""
    counters = Counters()
    for at, ms in zip(due, latencies_ms, strict=True):
        if at + ms / 1000 < duration_s:
            counters.record_correct(at + ms / 1000, ms)
            counters.record_lag(int(at), 0.1)
    config = LoadConfig(rate=rate, duration_s=duration_s, warmup_s=0, arrivals=arrivals)
    return summarize(Progress(duration_s, total=counters), "http://x", config)


def overloaded_server(rate=390.0, capacity=328.0, duration_s=10):
    """A server that handles 328 requests/s under 390: the queue grows, and latency with it."""
    due = np.concatenate(list(Schedule(rate, duration_s).due_times()))
    return simulated(due, lindley(due, 1 / capacity) * 1000, rate)


def test_a_server_slower_than_the_rate_violates_its_limits():
    """328/s against rate=390, and a p99 of seconds against 50 ms: a longer run would not change that."""
    result = overloaded_server()
    assert result.requests_per_second == pytest.approx(328, rel=0.02)
    assert "requests were scheduled while all 256 users were waiting" in result.generator.bottleneck
    assert not result.generator.starved
    evaluated = {one.limit: one for one in evaluate_limits(result, Limits(rate=390, p50_ms=50, p99_ms=50))}
    assert {evaluated[name].state for name in ("rate", "p50_ms", "p99_ms")} == {"fail"}
    assert evaluated["rate"].text.startswith(
        f"{result.requests_per_second:.4g} correct responses/s, limit at least 390"
    )
    assert verdict(evaluate_limits(result, Limits(p99_ms=50))) == "fail"


def test_requests_that_were_never_sent_count_as_slower_than_any():
    """A server that hangs at the end: the responses before that were fast, but a percentile includes the rest."""
    due = [i / 100 for i in range(1000)]
    latencies_ms = [5.0 if at < 9.5 else 60_000.0 for at in due]
    result = simulated(due, latencies_ms, 100, "uniform")
    assert result.generator.unsent > 40
    assert result.p99_ms == pytest.approx(5, rel=0.01)
    [p99] = [one for one in evaluate_limits(result, Limits(p99_ms=50)) if one.limit == "p99_ms"]
    assert p99.state != "pass"
    assert "or more" in p99.text


def test_responses_after_the_end_count_as_latency_but_not_as_rate():
    """A server that hangs for the last two seconds and responds after the end."""
    counters = Counters()
    for i in range(1000):
        at = i / 100
        counters.record_lag(int(at), 0.1)
        counters.record_correct(at + 0.005 if at < 8 else 10.5, 5.0 if at < 8 else (10.5 - at) * 1000)
    config = LoadConfig(rate=100, duration_s=10, warmup_s=0, arrivals="uniform")
    result = summarize(Progress(10.0, total=counters), "http://x", config)
    assert result.requests_per_second == 80
    assert result.p99_ms > 2000
    assert states(evaluate_limits(result, Limits(p99_ms=50, rate=99))) == {
        "failed": "pass", "wrong": "pass", "p99_ms": "fail", "rate": "fail",
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_a_fast_server_meets_the_rate_however_many_requests_were_due(seed):
    """At 200/s 1,900 to 2,100 Poisson arrivals are due in ten seconds; a server that handles all of them passes."""
    due = np.concatenate(list(Schedule(200, 10, seed=seed).due_times()))
    counters = Counters()
    for at in due:
        counters.record_correct(at + 0.001, 1.0)
        counters.record_lag(int(at), 0.1)
    config = LoadConfig(rate=200, duration_s=10, warmup_s=0, seed=seed)
    result = summarize(Progress(10.0, total=counters), "http://x", config)
    [rate] = [one for one in evaluate_limits(result, Limits(rate=199)) if one.limit == "rate"]
    assert rate.state == "pass", rate.text
    if result.requests_per_second < 199:
        assert "of 200 requests/s happened to be scheduled" in rate.text


def test_a_rate_missed_by_the_requests_in_flight_is_inconclusive():
    due = np.concatenate(list(Schedule(20, 10, arrivals="uniform").due_times()))
    result = simulated(due, [450.0] * len(due), 20, "uniform")
    [rate] = [one for one in evaluate_limits(result, Limits(rate=19.5)) if one.limit == "rate"]
    assert (rate.state, "may have been in flight" in rate.text) == ("inconclusive", True)


def test_a_server_without_a_correct_response_violates_every_limit_of_latency():
    result = measured([], wrong=500)
    evaluated = {one.limit: one for one in evaluate_limits(result, Limits(p50_ms=10, p99_ms=50))}
    assert {name: one.state for name, one in evaluated.items()} == {
        "failed": "pass", "wrong": "fail", "p50_ms": "fail", "p99_ms": "fail",
    }  # fmt: skip
    assert evaluated["p99_ms"].text == "no correct response, so no p99; limit 50 ms"
    assert (result.p50_ms, result.p99_ms, set(result.percentiles.values())) == (None, None, {None})
    assert states(evaluate_limits(measured([]), Limits(p99_ms=50)))["p99_ms"] == "inconclusive", "no request ended"


def test_limits_that_no_server_could_meet_are_refused_before_the_load():
    gate.check_feasible(Limits(rate=199), LoadConfig(rate=200))
    gate.check_feasible(Limits(rate=1000), LoadConfig(users=8))
    with pytest.raises(InvalidInput, match="limit rate=201 cannot be reached: a rate of 200"):
        gate.check_feasible(Limits(rate=201), LoadConfig(rate=200))
    with pytest.raises(InvalidInput, match="sends 125 requests per second on average"):
        gate.check_feasible(Limits(rate=150), LoadConfig(rate=200, shape="step", warmup_s=0))


def test_limits_and_config_from_the_stage_s_parameters():
    assert gate.parse_stage_parameters({}, 8, 0, 5) == (
        Limits(failed=None, wrong=None),
        LoadConfig(users=8, duration_s=5),
    )
    limits, config = gate.parse_stage_parameters({"rate": "99", "slower": "20%", "wrong": 0}, 8, 100, 5)
    assert limits == Limits(failed=None, wrong=0, rate=99, slower=0.2)
    assert config == LoadConfig(users=0, rate=100, duration_s=5), "as many users as needed"


@pytest.mark.parametrize(
    "limits, users, rate, duration_s, message",
    [
        ({"p98_ms": 1}, 8, 0, 5, "limits: unknown limit 'p98_ms'; choose from failed, wrong, p50_ms"),
        ({"p99_ms": "soon"}, 8, 0, 5, "limits: p99_ms='soon' must be a number of milliseconds, e.g. 50"),
        ({"p99_ms": {"at": "most"}}, 8, 0, 5, "limits: p99_ms={'at': 'most'} must be a number of milliseconds"),
        ({"p50_ms": 5, "p99_ms": 1}, 8, 0, 5, "limits: p99_ms=1 is lower than p50_ms=5"),
        ({"wrong": 2}, 8, 0, 5, "at most 1"),
        ({"rate": 101}, 8, 100, 5, "limit rate=101 cannot be reached: a rate of 100"),
        ({"slower": "20%"}, 8, 0, 5, "limit slower=0.2 needs an open-loop load"),
        ({}, 8, -1, 5, "--rate -1: must not be negative"),
        ({}, 8, 0, 0, "it needs at least 1 s and 1 process"),
    ],
)
def test_stage_parameters_that_are_refused(limits, users, rate, duration_s, message):
    with pytest.raises(InvalidInput, match=re.escape(message)):
        gate.parse_stage_parameters(limits, users, rate, duration_s)


def test_an_interrupted_run_is_inconclusive():
    result = dataclasses.replace(measured([1] * 1000), partial=True)
    assert verdict(evaluate_limits(result, Limits())) == "inconclusive"


def test_the_verdict_is_the_worst_state():
    limit_result = gate.LimitResult
    assert verdict([limit_result("a", "pass", ""), limit_result("b", "inconclusive", "")]) == "inconclusive"
    assert verdict([limit_result("a", "fail", ""), limit_result("b", "inconclusive", "")]) == "fail"
    assert verdict([limit_result("a", "pass", "")]) == "pass"
    assert verdict([]) == "inconclusive"
    assert gate.EXIT_STATUS == {"pass": 0, "fail": 1, "inconclusive": 3}


def simulate_rounds(factor, noise, seed, count=5):
    generator = random.Random(seed)

    def simulate(scale):
        median_ms = 20 * scale * generator.lognormvariate(0, noise)  # differs from round to round
        return measured([median_ms * generator.lognormvariate(0, 0.3) for _ in range(300)])

    return [(simulate(1.0), simulate(factor)) for _ in range(count)]


def final_verdict(factor, seed, noise=0.1):
    """The verdict after as many rounds as `gate.run_rounds` would run."""
    pairs = simulate_rounds(factor, noise, seed, gate.MAX_ROUNDS)
    for count in range(gate.MIN_ROUNDS, gate.MAX_ROUNDS + 1):
        current = verdict(compare_with_baseline(pairs[:count], 0.2))
        if current != "inconclusive":
            return current
    return "inconclusive"


def test_forty_comparisons_of_equal_and_of_slower_versions():
    """The bar: of 40 equal pairs at most 2 fail, of 40 that are 50 % slower at least 38."""
    equal = Counter(final_verdict(1.0, seed) for seed in range(40))
    slower = Counter(final_verdict(1.5, seed) for seed in range(40))
    assert equal["fail"] <= 2
    assert slower["fail"] >= 38
    assert slower["pass"] == 0


def test_noisy_rounds_are_inconclusive():
    assert verdict(compare_with_baseline(simulate_rounds(1.3, 0.8, 3), 0.2)) == "inconclusive"
    assert verdict(compare_with_baseline(simulate_rounds(1.0, 0.1, 3, count=1), 0.2)) == "inconclusive"
    assert verdict(compare_with_baseline([(measured([]), measured([1] * 10))] * 5, 0.2)) == "inconclusive"


def test_a_candidate_without_a_correct_response_is_slower_than_any_baseline():
    limit_results = compare_with_baseline([(measured([1] * 10), measured([], wrong=10))] * 5, 0.2)
    assert [one.state for one in limit_results] == ["fail", "fail"]
    assert "no correct response in 5 of 5 rounds" in limit_results[0].text


def test_the_outputs_of_a_comparison_show_the_baseline_beside_the_candidate(tmp_path):
    pairs = [(measured([10.0] * 300, failed=1, rate=50), measured([20.0] * 400, rate=50)) for _ in range(3)]
    pairs.append((pairs[0][0], measured([90.0] * 300, rate=50, starved="it lacked CPU")))
    candidates = [candidate for _, candidate in pairs]
    table = result_files.markdown("A test", candidates, pairs=pairs)
    baseline, candidate = (line.split(" | ") for line in table.splitlines()[4:6])
    assert (baseline[0], baseline[3:5], baseline[-1]) == ("| baseline", ["30", "10.0"], "4 |")
    assert (candidate[0], candidate[3:5], candidate[-1]) == ("| candidate", ["40", "20.0"], "0 |")
    assert "REST: 4 rounds of the baseline http://x and the candidate http://x; " in table
    assert "the load generator was too slow in 1 round," in table
    assert "> Note: in 1 of 8 runs, at worst: it lacked CPU." in table
    page = report.load_page("A test", candidates, [], pairs=pairs)
    for text in ("Baseline and candidate under load", "REST: 4 rounds of", ">baseline<", ">candidate<", "left out"):
        assert text in page
    result_files.write_json(tmp_path / "load.json", candidates, pairs=pairs)
    document = json.loads((tmp_path / "load.json").read_text())
    assert (len(document["runs"]), len(document["baseline_runs"])) == (4, 4)
    assert result_files.read_json(tmp_path / "load.json") == candidates


def test_one_note_for_all_runs_with_the_same_bottleneck():
    run = measured([10.0] * 300, starved="slow")
    worst = dataclasses.replace(run, generator=dataclasses.replace(run.generator, lag_p99_ms=9.0, bottleneck="slowest"))
    assert formatting.notes([run, worst, measured([1.0])]) == ["in 2 of 3 runs, at worst: slowest"]
    assert formatting.notes([run]) == ["slow"]
    assert formatting.notes([measured([1.0])]) == []


def test_the_reason_why_there_is_no_latency():
    """For example an overload, in which the users still send the warm-up's requests when the run ends."""
    counters = Counters()
    for _ in range(500):
        counters.record_correct(5.0, 4500.0)
    config = LoadConfig(rate=5000, duration_s=3, warmup_s=2)
    result = summarize(Progress(5.0, total=counters), "http://x", config)
    reason = "no correct response to a request that was scheduled after the warm-up"
    assert (result.p50_ms, result.no_latency) == (None, reason)
    [p99] = [one for one in evaluate_limits(result, Limits(p99_ms=50)) if one.limit == "p99_ms"]
    assert (p99.state, p99.text) == ("fail", f"{reason}, so no p99; limit 50 ms")
    assert f"no latency could be measured: {reason}." in result_files.markdown("A test", [result])
    assert f"no latency could be measured: {reason}." in report.load_page("A test", [result], [])
    starved = dataclasses.replace(result, generator=GeneratorStats(bottleneck="slow", starved=True))
    [p99] = [one for one in evaluate_limits(starved, Limits(p99_ms=50)) if one.limit == "p99_ms"]
    assert p99.state == "inconclusive"
    assert measured([]).no_latency == "no request ended"
    assert measured([], wrong=1).no_latency == "no correct response"
    assert measured([1.0]).no_latency == ""


def test_both_servers_get_the_same_arrivals_which_differ_between_rounds(monkeypatch):
    seeds, titles = [], []

    def run(url, source, config, on_progress):
        seeds.append((url, config.seed, config.arrivals))
        on_progress(Progress())
        return measured([10.0] * 300)

    monkeypatch.setattr(gate, "run", run)
    targets, config = (gate.Target("b", None), gate.Target("c", None)), LoadConfig(rate=50, seed=3)
    gate.run_rounds(*targets, config, 0.2, lambda title, progress: titles.append(title))
    assert titles[:3] == ["round 1 of 5, baseline", "round 1 of 5, candidate", "round 2 of 5, candidate"]
    assert sorted(seeds) == [(url, 3 + number, "poisson") for url in "bc" for number in range(gate.MIN_ROUNDS)]


def test_rounds_of_a_starved_generator_are_left_out():
    """They would make a slower version look equal, or an equal one slower."""

    def starve(pair):
        baseline, candidate = pair
        stats = dataclasses.replace(candidate.generator, starved=True)
        return baseline, dataclasses.replace(candidate, generator=stats)

    slower, equal = simulate_rounds(1.6, 0.05, 1), simulate_rounds(1.0, 0.05, 2)
    assert verdict(compare_with_baseline(slower + [starve(pair) for pair in equal], 0.2)) == "fail"
    assert verdict(compare_with_baseline(equal + [starve(pair) for pair in slower], 0.2)) == "pass"
    [p50, _] = compare_with_baseline(slower[:2] + [starve(pair) for pair in equal], 0.2)
    assert (p50.state, "the load generator was too slow in 5 of 7 rounds" in p50.text) == ("inconclusive", True)


def test_limits_from_yaml(tmp_path):
    file = tmp_path / "limits.yaml"
    file.write_text("failed: 0.1%\nwrong: 0\np99_ms: 50\nrate: 200\nslower: 20%\n")
    assert read_limits(file) == Limits(0.001, 0.0, None, None, None, 50.0, 200.0, 0.2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p99: 50", "unknown limit 'p99'; choose from failed"),
        ("p99_ms: fast", "p99_ms='fast' must be a number of milliseconds"),
        ("p99_ms: -1", "a number of milliseconds, e.g. 50"),
        ("p99_ms: 50%", "p99_ms='50%' must be a number of milliseconds"),
        ("rate: 50%", "rate='50%' must be a number of at least 0"),
        ("slower: fast", "a fraction or percentage, e.g. 0.01 or 1%"),
        ("p99_ms: .inf", "a number of milliseconds"),
        ("rate: true", "a number of at least 0"),
        ("failed: 5", "failed=5 must be a fraction of at most 1"),
        ("p50_ms: 20\np99_ms: 10", "p99_ms=10 is lower than p50_ms=20"),
        ("- 1", "not a mapping of limits"),
        ("a: [", "not YAML"),
        ("", "not a mapping of limits"),
    ],
)
def test_invalid_limits(tmp_path, text, message):
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_limits(file)
    with pytest.raises(InvalidInput, match="unknown limit"):
        parse_limits({"nonsense": 1}, "--limit")
