"""The locustfile's users in virtual time, against a server that serves one request at a time, SERVICE_S seconds each.

    python virtual_time.py GOLDEN SERVICE_S DURATION_S SEED RATE:USERS:START_S …

Users, tasks, sessions and responses are those of Locust and the locustfile; this file replaces the clock, sleep and the
server's bytes. All users start after START_S. A sleep ends exactly on time, so the results are computed, not measured.
Prints JSON with one run for each RATE:USERS:START_S: "latencies_ms" as reported for each request, in the order of the
responses, and its "counters".
"""

import heapq
import itertools
import json
import socket
import sys
import types
from pathlib import Path

import gevent
import greenlet
from geventhttpclient.response import HTTPSocketResponse
from locust import events
from locust.contrib import fasthttp
from locust.env import Environment

from seaway.load import locustfile, payloads
from seaway.load.schedule import Schedule


class World:
    """The virtual time, and the sleeping greenlets."""

    def __init__(self):
        self.now, self.sleepers, self.order = 0.0, [], itertools.count()
        self.main = greenlet.getcurrent()

    def clock(self):
        return self.now

    def sleep(self, seconds=0.0):
        self.call_at(self.now + seconds, greenlet.getcurrent())
        self.main.switch()

    def call_at(self, when, sleeper):
        heapq.heappush(self.sleepers, (when, next(self.order), sleeper))

    def run(self, until):
        while self.sleepers and self.sleepers[0][0] < until:
            self.now, _, sleeper = heapq.heappop(self.sleepers)
            sleeper.switch()


class Queue:
    """departure = max(arrival, previous departure) + service."""

    def __init__(self, world, service_s, body):
        self.world, self.service_s, self.body, self.departure = world, service_s, body, 0.0

    def send(self, method, url, **_):
        assert (method, url) == ("POST", "http://virtual/v1/models/toy:predict")
        self.departure = max(self.world.now, self.departure) + self.service_s
        self.world.sleep(self.departure - self.world.now)
        client, server = socket.socketpair()
        server.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.body), self.body))
        server.close()
        return fasthttp.FastResponse(HTTPSocketResponse(client, method="POST"))


def simulate(golden, service_s, duration_s, seed, rate, users, start_s):
    world = World()
    reported.clear()
    gevent.sleep = world.sleep
    locustfile.clock = world.clock
    fasthttp.time = types.SimpleNamespace(perf_counter=world.clock, time=world.clock)
    user = locustfile.TfsUser
    model = payloads.read_model(Path(golden))
    user.path, user.host = user.protocol.path(model.name, None), "http://virtual"
    user.requests = payloads.encode(model, user.protocol, 1)[:1]
    user.counters = locustfile.Counters()
    body = json.dumps({"predictions": user.requests[0].expected[0].values.tolist()}).encode()
    queue = Queue(world, service_s, body)
    locustfile.Run.users = (user,)
    locustfile.Run.schedule = Schedule(rate, duration_s, seed=seed)
    environment = Environment(user_classes=[user], events=events)
    for _ in range(users):
        one = user(environment)
        one.client._send_request_safe_mode = queue.send
        world.call_at(start_s, greenlet.greenlet(one.run))
    world.run(until=locustfile.FOREVER_S / 2)
    errors = {error for _, error in reported if error != "None"}
    assert not errors, errors
    return {"latencies_ms": [ms for ms, _ in reported], "counters": user.counters.to_json()}


if __name__ == "__main__":
    reported = []
    events.request.add_listener(lambda response_time, exception, **_: reported.append((response_time, str(exception))))
    golden, service_s, duration_s, seed, *cases = sys.argv[1:]
    fixed = golden, float(service_s), float(duration_s), int(seed)
    settings = [case.split(":") for case in cases]
    print(json.dumps([simulate(*fixed, float(rate), int(users), float(start)) for rate, users, start in settings]))
