"""Users who look at an answer for a while before they ask again, as people do.

    locust -f loadtest/think_time.py --host http://127.0.0.1:8501 --golden models/characters/1 --users 50

A closed loop: leave --rate out, which says by itself when requests are due.
"""

import random

from seaway.load.locustfile import use


class Thinking:
    """What differs from Seaway's own users, whatever the protocol."""

    FROM, TO = 0.5, 2.0  # seconds between an answer and the next request

    def wait_time(self) -> float:
        return random.uniform(self.FROM, self.TO)  # noqa: S311


Tfs, GraphPipe, Oip, OipBinary, Png = use(Thinking)  # Locust looks for users among this file's names
