"""One queue, one server, a service time that never changes: what each request must take, and what theory has of it."""

import numpy as np


def lindley(arrived: np.ndarray, service: float) -> np.ndarray:
    """Seconds from each arrival to its departure, float64 [n]; `arrived` [n] ascending, `service` the seconds of each.

    departure = max(arrival, the departure before) + service, for all at once: with k services taken off departure k,
    each is the latest of the arrivals until then with as many taken off.
    """
    done = service * np.arange(len(arrived))
    departed: np.ndarray = np.maximum.accumulate(arrived - done)
    departed += done
    departed += service - arrived
    return departed


def mean_wait(load: float, service: float) -> float:
    """Seconds that a Poisson arrival waits on average (M/D/1, by Pollaczek and Khinchine's formula)."""
    return load * service / (2 * (1 - load))


def averaged(load: float, arrivals: int, seed: int, batches: int = 100) -> tuple[float, float, float]:
    """Of M/D/1 with a service time of 1: (the mean wait by `lindley`, its standard error by means of batches, the share
    of arrivals that did not wait)."""
    gaps = np.random.default_rng(seed).standard_exponential(arrivals)
    gaps /= load
    waited = lindley(np.cumsum(gaps, out=gaps), 1.0)
    waited -= 1.0
    means = waited.reshape(batches, -1).mean(axis=1)
    return float(waited.mean()), float(means.std(ddof=1)) / batches**0.5, float((waited < 1e-6).mean())
