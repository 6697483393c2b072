"""Users that pause after each response before they send the next request, as people do.

    locust -f loadtest/think_time.py --host http://127.0.0.1:8501 --golden models/characters/1 --users 50

A closed loop: do not give --rate, which itself determines when requests are due.
"""

import random

from seaway.load.locustfile import customize_users


class ThinkTime:
    """Overrides of Seaway's own users, for every protocol."""

    MIN_S, MAX_S = 0.5, 2.0  # between a response and the next request

    def wait_time(self) -> float:
        return random.uniform(self.MIN_S, self.MAX_S)  # noqa: S311


# Locust looks for users among this file's names
globals().update({user.__name__: user for user in customize_users(ThinkTime)})
