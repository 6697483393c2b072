"""A queue with one server and a constant service time: each request's time in it, and the mean wait by theory."""

import numpy as np


def lindley(arrivals: np.ndarray, service: float) -> np.ndarray:
    """Time from each arrival to its departure, float64 [n]; `arrivals` [n] ascending, `service` for each, in one unit.

    departure = max(arrival, previous departure) + service, vectorised: departure k minus k services is the largest of
    the arrivals up to k, each minus as many services as came before it.
    """
    previous_services = service * np.arange(len(arrivals))
    sojourn: np.ndarray = np.maximum.accumulate(arrivals - previous_services)
    sojourn += previous_services
    sojourn += service - arrivals
    return sojourn


def mean_wait(load: float, service: float) -> float:
    """The mean wait of a Poisson arrival before its service (M/D/1, by the Pollaczek-Khinchine formula)."""
    return load * service / (2 * (1 - load))


def simulate_mean_wait(load: float, arrivals: int, seed: int, batches: int = 100) -> tuple[float, float, float]:
    """Simulates M/D/1 with a service time of 1: (mean wait by `lindley`, its standard error by batch means, share of
    arrivals that did not wait)."""
    gaps = np.random.default_rng(seed).standard_exponential(arrivals)
    gaps /= load
    waits = lindley(np.cumsum(gaps, out=gaps), 1.0)
    waits -= 1.0
    means = waits.reshape(batches, -1).mean(axis=1)
    return float(waits.mean()), float(means.std(ddof=1)) / batches**0.5, float((waits < 1e-6).mean())
