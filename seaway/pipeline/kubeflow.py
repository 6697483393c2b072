"""Client of Kubeflow Pipelines' API: submits compiled pipelines as runs or recurring runs, and reads a run's status.

It uses kfp_server_api, which kfp.Client wraps, instead of kfp.Client itself, because that waits forever for a silent
host, retries a refusing host five times in 25 s with a traceback each, prints, and disables the cache only for the
outermost tasks.
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

EXPERIMENT = "seaway"  # the default, created if it does not exist; a named one must exist
REQUEST_TIMEOUT_S = (10, 60)  # to connect, and to read the response
FINAL_STATES = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_STATES_BY_RANK = (
    "",
    "PENDING",
    "RUNNING",
    "SKIPPED",
    "SUCCEEDED",
    "CANCELED",
    "FAILED",
)  # the later wins if a task is listed twice
_CACHED_MAX_S = 1  # no pod ends within this time, so a stage that succeeded within it came from the cache


class Kubeflow:
    """One API server. Every method raises Unavailable, Refused, NotFound or InvalidInput with advice."""

    def __init__(self, host: str, token: str = "", ca_file: Path | None = None) -> None:
        """Checks that the host is a Kubeflow Pipelines API.

        `host`: e.g. http://127.0.0.1:8080 or https://kubeflow.example/pipeline; `token`: sent as Bearer.
        """
        import kfp_server_api
        from urllib3 import Retry

        if not host.startswith(("http://", "https://")):
            raise InvalidInput(f"--host {host}: begin with http:// or https://")
        self.host = host.rstrip("/").removesuffix("/#")
        configuration = kfp_server_api.Configuration(host=self.host)
        configuration.ssl_ca_cert = str(ca_file) if ca_file else None
        configuration.retries = Retry(total=0, raise_on_redirect=False)  # a redirect to a login page is an error
        if token:
            configuration.api_key = {"authorization": token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        self._kfp, self._client = kfp_server_api, kfp_server_api.ApiClient(configuration)
        self.multi_user = self._check_host()

    def _check_host(self) -> bool:
        """Returns whether this Kubeflow has profiles. Raises Unavailable for a host that is no Kubeflow."""
        path = "/apis/v2beta1/healthz"
        with self._translated_errors("healthz"):
            self._client.call_api(path, "GET", auth_settings=["Bearer"], _request_timeout=REQUEST_TIMEOUT_S)
        try:
            health = json.loads(self._client.last_response.data)
            if not isinstance(health, dict):
                raise ValueError
        except ValueError:
            raise Unavailable(_WRONG_HOST.format(host=self.host, what="something other than JSON", path=path)) from None
        return bool(health.get("multi_user"))

    def check_namespace(self, namespace: str) -> None:
        """Raises InvalidInput if a namespace is required and missing."""
        if self.multi_user and not namespace:
            raise InvalidInput(f"{self.host} is a multi-user Kubeflow: give your profile's namespace with --namespace")

    def experiment(self, name: str, namespace: str) -> str:
        """Returns the experiment's ID. Creates the default one if needed; raises NotFound for a missing named one."""
        api = self._kfp.ExperimentServiceApi(self._client)
        scope = {"namespace": namespace} if self.multi_user else {}
        predicate = {"operation": "EQUALS", "key": "display_name", "stringValue": name or EXPERIMENT}
        with self._translated_errors("experiments"):
            matching = api.experiment_service_list_experiments(
                filter=json.dumps({"predicates": [predicate]}), _request_timeout=REQUEST_TIMEOUT_S, **scope
            ).experiments
            if matching:
                return str(matching[0].experiment_id)
            if name:
                others = api.experiment_service_list_experiments(
                    page_size=100, _request_timeout=REQUEST_TIMEOUT_S, **scope
                )
                names = ", ".join(sorted(one.display_name for one in others.experiments or ()))
                raise NotFound(
                    f"{self.host} has no experiment {name!r}; available: {names or 'none'}; create it there, or omit "
                    "--experiment"
                )
            body = self._kfp.V2beta1Experiment(display_name=EXPERIMENT, **scope)
            created = api.experiment_service_create_experiment(experiment=body, _request_timeout=REQUEST_TIMEOUT_S)
            return str(created.experiment_id)

    def run(self, request: Request) -> str:
        """Starts a run. Returns its ID."""
        body = self._kfp.V2beta1Run(**self._common(request))
        with self._translated_errors("runs"):
            api = self._kfp.RunServiceApi(self._client)
            return str(api.run_service_create_run(run=body, _request_timeout=REQUEST_TIMEOUT_S).run_id)

    def recur(self, request: Request, cron: str = "", interval_s: int = 0) -> str:
        """Creates a recurring run by `cron` (six fields, seconds first) or every `interval_s`, one run at a time.

        Missed times are not caught up. Returns the recurring run's ID.
        """
        kfp = self._kfp
        trigger = (
            kfp.V2beta1Trigger(cron_schedule=kfp.V2beta1CronSchedule(cron=cron))
            if cron
            else kfp.V2beta1Trigger(periodic_schedule=kfp.V2beta1PeriodicSchedule(interval_second=str(interval_s)))
        )
        body = kfp.V2beta1RecurringRun(
            trigger=trigger, mode="ENABLE", max_concurrency="1", no_catchup=True, **self._common(request)
        )
        with self._translated_errors("recurring runs"):
            api = kfp.RecurringRunServiceApi(self._client)
            created = api.recurring_run_service_create_recurring_run(
                recurring_run=body, _request_timeout=REQUEST_TIMEOUT_S
            )
            return str(created.recurring_run_id)

    def run_status(self, run: str) -> "RunStatus":
        """Returns the run's status."""
        with self._translated_errors(f"run {run}"):
            api = self._kfp.RunServiceApi(self._client)
            return _parse_status(api.run_service_get_run(run_id=run, _request_timeout=REQUEST_TIMEOUT_S))

    def terminate(self, run: str) -> None:
        """Terminates a run, without running its exit handler."""
        with self._translated_errors(f"run {run}"):
            api = self._kfp.RunServiceApi(self._client)
            api.run_service_terminate_run(run_id=run, _request_timeout=REQUEST_TIMEOUT_S)

    def workflow(self, run: str) -> dict[str, Any]:
        """Returns the run's Argo Workflow, whose nodes show why a pod failed; {} if this Kubeflow does not provide it.

        Only the previous API version has it, for which kfp_server_api has no method.
        """
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError

        path = f"/apis/v1beta1/runs/{quote(run, safe='')}"
        try:
            self._client.call_api(path, "GET", auth_settings=["Bearer"], _request_timeout=REQUEST_TIMEOUT_S)
            workflow = json.loads(json.loads(self._client.last_response.data)["pipeline_runtime"]["workflow_manifest"])
        except (ApiException, HTTPError, ValueError, KeyError, TypeError):
            return {}
        return workflow if isinstance(workflow, dict) else {}

    def page(self, run: str, recurring: bool = False) -> str:
        """Returns the URL of a run's page."""
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
    def _translated_errors(self, resource: str) -> Iterator[None]:
        """Raises the client's errors as Seaway's."""
        from kfp_server_api import ApiException
        from urllib3.exceptions import HTTPError, SSLError

        try:
            yield
        except ApiException as error:
            raise self._translate(resource, error) from None
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, SSLError):
                raise Unavailable(
                    f"the TLS certificate of {self.host} is not trusted ({_short_reason(reason)}): pass its CA "
                    "certificate with --ca-file"
                ) from None
            raise Unavailable(f"nothing responds at {self.host}: {_short_reason(reason)}") from None

    def _translate(self, resource: str, error: Any) -> SeawayError:
        status, message = error.status, _error_message(error.body) or error.reason
        if status == 401 or 300 <= status < 400:
            redirect = f", redirects to {error.headers.get('Location')}" if status != 401 else ""
            return Refused(
                f"{self.host} requires authentication ({status}{redirect}): give --token-file with a valid token"
            )
        if status == 403:
            return Refused(f"{self.host}: access to {resource} denied: {message}")
        if status == 404 and resource == "healthz":
            return Unavailable(_WRONG_HOST.format(host=self.host, what=status, path="/apis/v2beta1/healthz"))
        if status == 404:
            return NotFound(f"{self.host} has no {resource}: {message}")
        if status in (400, 409, 412):
            return InvalidInput(f"{self.host} rejects the request ({resource}): {message}")
        return Unavailable(f"{self.host}, {resource}: {status} {message}")


_WRONG_HOST = (
    "{host} is not a Kubeflow Pipelines 2 API: it responds with {what} at {path}; give the URL that your browser shows "
    "before /#/, "
    "or http://127.0.0.1:8080 with `kubectl -n kubeflow port-forward svc/ml-pipeline-ui 8080:80`"
)


def _error_message(body: Any) -> str:
    try:
        details = json.loads(body)
        return str(details.get("message") or details.get("error") or "")
    except (ValueError, TypeError, AttributeError):
        return ""


def _short_reason(error: object) -> str:
    """Returns the message without the failed object that urllib3 puts before it."""
    return str(error).rpartition(">: ")[2].rpartition(": [")[2] or str(error)


# ---- run status


@dataclass(frozen=True)
class RunStatus:
    """`stages`: started stages, in start order → their state, CACHED if the result came from the cache; `messages`:
    Kubeflow's error messages; `pending`: whether a task waits for its pod."""

    state: str
    stages: dict[str, str]
    messages: tuple[str, ...]
    pending: bool = False


def _parse_status(run: Any) -> RunStatus:
    """Parses a run of the API, which lists Argo's nodes as tasks: some stages twice, some nodes without a name, most
    without their error. A stage whose driver failed has failed. The API reports a terminated run as FAILED."""
    details = (run.run_details and run.run_details.task_details) or []
    named = [(argo.parse_name(task.display_name), task) for task in details if task.display_name]
    spec = run.pipeline_spec or {}
    started: dict[str, tuple[str, str]] = {}
    for stage in stages(spec.get("pipeline_spec", spec)):
        nodes = [(name, task) for name, task in named if name.stage == stage]
        state = _deciding_state((name, task) for name, task in nodes if not name.driver)
        if _deciding_state((name, task) for name, task in nodes if name.driver) == "FAILED":
            state = "FAILED"
        if state == "SUCCEEDED" and any(_is_cached(task, named) for name, task in nodes if not name.driver):
            state = "CACHED"
        if state:
            started[stage] = min(str(task.start_time or "") for _, task in nodes), state
    run_state = str(run.state or "PENDING")
    if run_state == "FAILED" and any(one.state == "CANCELING" for one in run.state_history or ()):
        run_state = "CANCELED"
    errors = [run.error, *(task.error for task in details)]
    messages = dict.fromkeys(error.message for error in errors if error is not None and error.message)
    pending = any(task.state == "PENDING" for _, task in named)
    order = sorted(started, key=lambda stage: started[stage][0])
    return RunStatus(run_state, {stage: started[stage][1] for stage in order}, tuple(messages), pending)


def _deciding_state(tasks: Iterable[tuple[argo.NodeName, Any]]) -> str:
    """Returns the state of a stage with several nodes: of the node above its attempts, else of the newest attempt."""
    ranked = [
        ((name.executor, name.numbered, [-attempt for attempt in name.attempts], -_rank(state)), state)
        for name, task in tasks
        if (state := str(task.state or ""))
    ]
    return min(ranked)[1] if ranked else ""


def _is_cached(stage: Any, named: Iterable[tuple[argo.NodeName, Any]]) -> bool:
    """Whether a stage succeeded at once while an executor was skipped, because its driver had found the result."""
    if not (stage.start_time and stage.end_time) or (stage.end_time - stage.start_time).total_seconds() > _CACHED_MAX_S:
        return False
    return any(
        name.executor and task.state == "SKIPPED" and stage.start_time <= task.start_time <= stage.end_time
        for name, task in named
        if task.start_time
    )


def _rank(state: str) -> int:
    return _STATES_BY_RANK.index(state) if state in _STATES_BY_RANK else _STATES_BY_RANK.index("RUNNING")
