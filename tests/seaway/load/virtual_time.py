"""The locustfile's users in virtual time, before a server that serves one after the other, S seconds each.

    python virtual_time.py GOLDEN SERVICE_S SECONDS SEED RATE:USERS …

Users, tasks, sessions and responses are Locust's own and the locustfile's; the clock, the sleep and the bytes that come
from the server are this file's. A sleep ends at exactly its time, so what is counted is arithmetic and no measurement.
Prints JSON, for each RATE:USERS a run: "took", milliseconds of each request as reported, in the order of the answers;
"tally", all counts.
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
    """The time, and who sleeps until when."""

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
    """departure = max(arrival, the departure before) + service."""

    def __init__(self, world, service, answer):
        self.world, self.service, self.answer, self.departed = world, service, answer, 0.0

    def send(self, method, url, **_):
        assert (method, url) == ("POST", "http://virtual/v1/models/toy:predict")
        self.departed = max(self.world.now, self.departed) + self.service
        self.world.sleep(self.departed - self.world.now)
        ours, theirs = socket.socketpair()
        theirs.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(self.answer), self.answer))
        theirs.close()
        return fasthttp.FastResponse(HTTPSocketResponse(ours, method="POST"))


def simulated(golden, service, seconds, seed, rate, users):
    world = World()
    took.clear()
    gevent.sleep = world.sleep
    locustfile.clock = world.clock
    fasthttp.time = types.SimpleNamespace(perf_counter=world.clock, time=world.clock)
    user = locustfile.TfsUser
    model = payloads.read_model(Path(golden))
    user.path, user.host = user.protocol.path(model.name, None), "http://virtual"
    user.requests = payloads.encode(model, user.protocol, 1)[:1]
    user.tally = locustfile.Tally()
    answer = json.dumps({"predictions": user.requests[0].expected.tolist()}).encode()
    queue = Queue(world, service, answer)
    locustfile.Run.users = (user,)
    locustfile.Run.schedule = Schedule(rate, seconds, seed=seed)
    environment = Environment(user_classes=[user], events=events)
    for _ in range(users):
        one = user(environment)
        one.client._send_request_safe_mode = queue.send
        world.call_at(0.0, greenlet.greenlet(one.run))
    world.run(until=locustfile.FOREVER / 2)
    faults = {kind for _, kind in took if kind != "None"}
    assert not faults, faults
    return {"took": [ms for ms, _ in took], "tally": user.tally.to_json()}


if __name__ == "__main__":
    took = []
    events.request.add_listener(lambda response_time, exception, **_: took.append((response_time, str(exception))))
    golden, service, seconds, seed, *cases = sys.argv[1:]
    fixed = golden, float(service), float(seconds), int(seed)
    pairs = [case.split(":") for case in cases]
    print(json.dumps([simulated(*fixed, float(rate), int(users)) for rate, users in pairs]))
