"""Kubeflow Pipelines' API: a compiled pipeline becomes a run or a recurring one, and how a run stands.

By kfp_server_api, which kfp.Client wraps. Not by kfp.Client itself: it waits for a silent host without an end, asks one
that refuses five times in 25 s with a traceback each, prints, and turns the cache off for outermost tasks alone.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from seaway.errors import InvalidInput, NotFound, Refused, SeawayError, Unavailable
from seaway.kube import argo
from seaway.pipeline.request import Request, stages

EXPERIMENT = "seaway"  # made where it is not there; one that is named must be
SECONDS = (10, 60)  # to connect, and for an answer
FINAL = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_RANKS = ("", "PENDING", "RUNNING", "SKIPPED", "SUCCEEDED", "CANCELED", "FAILED")  # of one task told twice, the later
_AT_ONCE = 1  # seconds, in which no pod ends: a stage that succeeded in them came from the cache


class Kubeflow:
    """One API server. Every method raises Unavailable, Refused, NotFound or InvalidInput, saying what to do."""

    def __init__(self, host: str, token: str = "", ca_file: Path | None = None) -> None:
        """`host`: as http://127.0.0.1:8080, or https://kubeflow.example/pipeline; `token`: sent as Bearer.

        Looks whether the host is what it should be.
        """
        import kfp_server_api
        from urllib3 import Retry

        if not host.startswith(("http://", "https://")):
            raise InvalidInput(f"--host {host}: begin with http:// or https://")
        self.host = host.rstrip("/").removesuffix("/#")
        configuration = kfp_server_api.Configuration(host=self.host)
        configuration.ssl_ca_cert = str(ca_file) if ca_file else None
        configuration.retries = Retry(total=0, raise_on_redirect=False)  # a page to log in at is no answer
        if token:
            configuration.api_key = {"authorization": token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        self._kfp, self._client = kfp_server_api, kfp_server_api.ApiClient(configuration)
        self.multi_user = self._healthz()

    def _healthz(self) -> bool:
        path = "/apis/v2beta1/healthz"
        with self._explained("healthz"):
            self._client.call_api(path, "GET", auth_settings=["Bearer"], _request_timeout=SECONDS)
        try:
            found = json.loads(self._client.last_response.data)
            if not isinstance(found, dict):
                raise ValueError
        except ValueError:
            raise Unavailable(_STRANGER.format(host=self.host, what="something else than JSON", path=path)) from None
        return bool(found.get("multi_user"))

    def check_namespace(self, namespace: str) -> None:
        """Raises InvalidInput where one is needed or none can be."""
        if self.multi_user and not namespace:
            raise InvalidInput(f"{self.host} is a Kubeflow with profiles: name yours with --namespace")

    def experiment(self, name: str, namespace: str) -> str:
        """Its id. Raises NotFound for a named one that is not there; the default one is made."""
        api = self._kfp.ExperimentServiceApi(self._client)
        where = {"namespace": namespace} if self.multi_user else {}
        wanted = {"operation": "EQUALS", "key": "display_name", "stringValue": name or EXPERIMENT}
        with self._explained("experiments"):
            found = api.experiment_service_list_experiments(
                filter=json.dumps({"predicates": [wanted]}), _request_timeout=SECONDS, **where
            ).experiments
            if found:
                return str(found[0].experiment_id)
            if name:
                others = api.experiment_service_list_experiments(page_size=100, _request_timeout=SECONDS, **where)
                names = ", ".join(sorted(one.display_name for one in others.experiments or ()))
                raise NotFound(
                    f"{self.host} has no experiment {name!r}: it has {names or 'none'}; make it there, or leave "
                    "--experiment out"
                )
            body = self._kfp.V2beta1Experiment(display_name=EXPERIMENT, **where)
            made = api.experiment_service_create_experiment(experiment=body, _request_timeout=SECONDS)
            return str(made.experiment_id)

    def run(self, request: Request) -> str:
        """Starts a run. Returns its id."""
        body = self._kfp.V2beta1Run(**self._common(request))
        with self._explained("runs"):
            api = self._kfp.RunServiceApi(self._client)
            return str(api.run_service_create_run(run=body, _request_timeout=SECONDS).run_id)

    def recur(self, request: Request, cron: str = "", every: int = 0) -> str:
        """Starts a run at the times of `cron` (six fields, seconds first) or `every` so many seconds, one at a time.

        Times that were missed are not made up for. Returns the recurring run's id.
        """
        kfp = self._kfp
        trigger = (
            kfp.V2beta1Trigger(cron_schedule=kfp.V2beta1CronSchedule(cron=cron))
            if cron
            else kfp.V2beta1Trigger(periodic_schedule=kfp.V2beta1PeriodicSchedule(interval_second=str(every)))
        )
        body = kfp.V2beta1RecurringRun(
            trigger=trigger, mode="ENABLE", max_concurrency="1", no_catchup=True, **self._common(request)
        )
        with self._explained("recurring runs"):
            api = kfp.RecurringRunServiceApi(self._client)
            made = api.recurring_run_service_create_recurring_run(recurring_run=body, _request_timeout=SECONDS)
            return str(made.recurring_run_id)

    def state(self, run: str) -> "State":
        """How a run stands."""
        with self._explained(f"run {run}"):
            api = self._kfp.RunServiceApi(self._client)
            return _state(api.run_service_get_run(run_id=run, _request_timeout=SECONDS))

    def terminate(self, run: str) -> None:
        """Ends a run; its exit handler is not run either."""
        with self._explained(f"run {run}"):
            api = self._kfp.RunServiceApi(self._client)
            api.run_service_terminate_run(run_id=run, _request_timeout=SECONDS)

    def workflow(self, run: str) -> dict[str, Any]:
        """Argo's Workflow of a run, whose nodes say why a pod failed; {} where this Kubeflow does not tell.

        Only the API's version before has it, for which kfp_server_api has no method.
        """
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        path = f"/apis/v1beta1/runs/{quote(run, safe='')}"
        try:
            self._client.call_api(path, "GET", auth_settings=["Bearer"], _request_timeout=SECONDS)
            found = json.loads(json.loads(self._client.last_response.data)["pipeline_runtime"]["workflow_manifest"])
        except (ApiException, HTTPError, ValueError, KeyError, TypeError):
            return {}
        return found if isinstance(found, dict) else {}

    def page(self, run: str, recurring: bool = False) -> str:
        """The address of a run's page."""
        return f"{self.host}/#/{'recurringrun' if recurring else 'runs'}/details/{run}"

    def _common(self, request: Request) -> dict[str, Any]:
        self.check_namespace(request.namespace)
        return {
            "display_name": request.name,
            "experiment_id": self.experiment(request.experiment, request.namespace),
            "pipeline_spec": {
                "pipeline_spec": request.pipeline.spec,
                "platform_spec": request.pipeline.platform,
            },
            "runtime_config": self._kfp.V2beta1RuntimeConfig(parameters=request.arguments),
            "service_account": request.service_account or None,
        }

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """The client's errors as ours."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError, SSLError

        try:
            yield
        except ApiException as error:
            raise self._refusal(what, error) from None
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, SSLError):
                raise Unavailable(
                    f"{self.host} has no certificate that is trusted here ({_short(reason)}): give its authority's "
                    "with --ca-file"
                ) from None
            raise Unavailable(f"nobody answers at {self.host}: {_short(reason)}") from None

    def _refusal(self, what: str, error: Any) -> SeawayError:
        status, message = error.status, _message(error.body) or error.reason
        if status == 401 or 300 <= status < 400:
            where = f", but sends to {error.headers.get('Location')}" if status != 401 else ""
            return Refused(
                f"{self.host} wants to know who you are ({status}{where}): give --token-file, or a token that is "
                "still valid"
            )
        if status == 403:
            return Refused(f"{self.host}: you may not use {what} there: {message}")
        if status == 404 and what == "healthz":
            return Unavailable(_STRANGER.format(host=self.host, what=status, path="/apis/v2beta1/healthz"))
        if status == 404:
            return NotFound(f"{self.host} has no {what}: {message}")
        if status in (400, 409, 412):
            return InvalidInput(f"{self.host} does not take it ({what}): {message}")
        return Unavailable(f"{self.host}, {what}: {status} {message}")


_STRANGER = (
    "{host} is no API of Kubeflow Pipelines 2: it answers {what} at {path}; give what your browser shows before /#/, "
    "or http://127.0.0.1:8080 with `kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80`"
)


def _message(body: Any) -> str:
    try:
        found = json.loads(body)
        return str(found.get("message") or found.get("error") or "")
    except (ValueError, TypeError, AttributeError):
        return ""


def _short(error: object) -> str:
    """urllib3 puts the object that failed before its message."""
    return str(error).rpartition(">: ")[2].rpartition(": [")[2] or str(error)


# ---- how a run stands


@dataclass(frozen=True)
class State:
    """`stages`: those that Kubeflow knows already, in the order in which they began → their state, CACHED of one that
    the cache answered for; `messages`: what it says of errors; `pending`: whether a task waits for its pod."""

    state: str
    stages: dict[str, str]
    messages: tuple[str, ...]
    pending: bool = False


def _state(run: Any) -> State:
    """Kubeflow lists Argo's nodes as tasks: stages among them, some twice, some without a name, most without the error
    that they met. A stage whose driver failed has failed; a run that somebody ended is told as FAILED."""
    details = (run.run_details and run.run_details.task_details) or []
    named = [(argo.name(task.display_name), task) for task in details if task.display_name]
    spec = run.pipeline_spec or {}
    known: dict[str, tuple[str, str]] = {}
    for stage in stages(spec.get("pipeline_spec", spec)):
        own = [(name, task) for name, task in named if name.stage == stage]
        state = _decides((name, task) for name, task in own if not name.driver)
        if _decides((name, task) for name, task in own if name.driver) == "FAILED":
            state = "FAILED"
        if state == "SUCCEEDED" and any(_cached(task, named) for name, task in own if not name.driver):
            state = "CACHED"
        if state:
            known[stage] = min(str(task.start_time or "") for _, task in own), state
    whole = str(run.state or "PENDING")
    if whole == "FAILED" and any(one.state == "CANCELING" for one in run.state_history or ()):
        whole = "CANCELED"
    errors = [run.error, *(task.error for task in details)]
    messages = dict.fromkeys(error.message for error in errors if error is not None and error.message)
    pending = any(task.state == "PENDING" for _, task in named)
    order = sorted(known, key=lambda stage: known[stage][0])
    return State(whole, {stage: known[stage][1] for stage in order}, tuple(messages), pending)


def _decides(tasks: Iterable[tuple[argo.Name, Any]]) -> str:
    """The state of a stage that is told by several nodes: of the one above its attempts, else of the newest attempt."""
    found = [
        ((name.executor, name.numbered, [-attempt for attempt in name.attempts], -_rank(state)), state)
        for name, task in tasks
        if (state := str(task.state or ""))
    ]
    return min(found)[1] if found else ""


def _cached(stage: Any, named: Iterable[tuple[argo.Name, Any]]) -> bool:
    """Whether a stage succeeded at once and an executor was passed over then: its driver had found the result."""
    if not (stage.start_time and stage.end_time) or (stage.end_time - stage.start_time).total_seconds() > _AT_ONCE:
        return False
    return any(
        name.executor and task.state == "SKIPPED" and stage.start_time <= task.start_time <= stage.end_time
        for name, task in named
        if task.start_time
    )


def _rank(state: str) -> int:
    return _RANKS.index(state) if state in _RANKS else _RANKS.index("RUNNING")
