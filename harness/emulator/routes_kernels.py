"""The kernels service, in the SDK's messages, and the live log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from kagglesdk.kernels.types import kernels_api_service as api
from kagglesdk.kernels.types.kernels_enums import KernelsListViewType, KernelWorkerStatus
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from harness.emulator import files, kernels, lifecycle, wire
from harness.emulator.clock import as_datetime
from harness.emulator.errors import StateError, bad_request, forbidden, not_found
from harness.emulator.routes import Answer, Context, Route
from harness.emulator.routes_datasets import SITE, _page_number

_STREAM_POLL_S = 0.1
_KEEP_ALIVE_S = 15.0


def _save(context: Context, message: api.ApiSaveKernelRequest) -> Answer:
    slug = message.slug or ""
    owner, _, name = slug.rpartition("/")
    push = kernels.Push(
        owner=(owner or context.user).lower(),
        slug=name.lower(),
        title=message.new_title or "",
        text=message.text or "",
        language=message.language or "",
        kind=message.kernel_type or "",
        datasets=tuple(message.dataset_data_sources or ()),
        competitions=tuple(message.competition_data_sources or ()),
        kernels=tuple(message.kernel_data_sources or ()),
        models=tuple(message.model_data_sources or ()),
        private=message.is_private if "is_private" in message else True,
        gpu=bool(message.enable_gpu),
        tpu=bool(message.enable_tpu),
        internet=message.enable_internet if "enable_internet" in message else True,
        machine=message.machine_shape or "",
        docker_image=message.docker_image or "",
        timeout_s=message.session_timeout_seconds or 0,
        execution=message.kernel_execution_type.name if "kernel_execution_type" in message else "",
        tags=tuple(message.category_ids or ()),
    )
    if not message.id and not push.slug:
        raise bad_request("slug or id must be given")
    answer = api.ApiSaveKernelResponse()
    env = {**context.env, **context.state.env_of_key(context.key)}
    try:
        saved = kernels.save(context.state, context.user, push, env, message.id or 0)
    except kernels.Rejected as problem:
        answer.error = str(problem)
        return answer
    answer.ref = f"/code/{saved.owner}/{saved.slug}"
    answer.url = f"{SITE}/code/{saved.owner}/{saved.slug}"
    answer.version_number = saved.number
    answer.kernel_id = saved.kernel
    answer.error = ""
    answer.invalid_dataset_sources = saved.sources.bad_datasets
    answer.invalid_competition_sources = saved.sources.bad_competitions
    answer.invalid_kernel_sources = saved.sources.bad_kernels
    answer.invalid_model_sources = saved.sources.bad_models
    return answer


def _found(context: Context, message: Any, poll: bool = False) -> tuple[Any, dict[str, Any]]:
    found = kernels.find(context.state, message.user_name, message.kernel_slug, context.user)
    row = kernels.version(context.state, found["id"], message.version_label, poll)
    return found, row


def _status(context: Context, message: api.ApiGetKernelSessionStatusRequest) -> Answer:
    _, row = _found(context, message, poll=True)
    answer = api.ApiGetKernelSessionStatusResponse()
    answer.status = KernelWorkerStatus[row["status"]]
    if row["failure"]:
        answer.failure_message = row["failure"]
    return answer


def _output(context: Context, message: api.ApiListKernelSessionOutputRequest) -> Answer:
    _, row = _found(context, message)
    rows, following = wire.page(
        kernels.outputs(context.state, row), message.page_token or "", message.page_size
    )
    answer = api.ApiListKernelSessionOutputResponse()
    listed = []
    for output in rows:
        item = api.ApiKernelSessionOutputFile()
        item.file_name = output.name
        item.url = files.address(context.state, context.base, "kernel", row["id"], output.name)
        listed.append(item)
    answer.files = listed
    if row["final"] or context.state.options.live_logs:
        answer.log = lifecycle.log_document(context.state.run_folder(row["id"]))
    answer.next_page_token = following
    return answer


def _files(context: Context, message: api.ApiListKernelFilesRequest) -> Answer:
    _, row = _found(context, message)
    rows, following = wire.page(
        kernels.outputs(context.state, row), message.page_token or "", message.page_size
    )
    answer = api.ApiListKernelFilesResponse()
    listed = []
    for output in rows:
        item = api.ApiListKernelFilesItem()
        item.name, item.size = output.name, output.size
        item.creation_date = as_datetime(output.modified).isoformat(timespec="milliseconds") + "Z"
        listed.append(item)
    answer.files = listed
    answer.next_page_token = following
    return answer


def _metadata(found: dict[str, Any], row: dict[str, Any], number: int) -> api.ApiKernelMetadata:
    asked = kernels.request_of(row)
    answer = api.ApiKernelMetadata()
    answer.id, answer.ref = found["id"], f"{found['owner']}/{found['slug']}"
    answer.title, answer.author, answer.slug = found["title"], found["owner"], found["slug"]
    answer.last_run_time = as_datetime(row["created"])
    answer.language, answer.kernel_type = found["language"], found["kind"]
    answer.is_private = asked["private"]
    answer.enable_gpu = row["accelerator"] == "GPU"
    answer.enable_tpu = row["accelerator"] == "TPU"
    answer.enable_internet = asked["internet"]
    answer.category_ids = asked["tags"]
    answer.dataset_data_sources = asked["datasets"]
    answer.competition_data_sources = asked["competitions"]
    answer.kernel_data_sources = asked["kernels"]
    answer.model_data_sources = asked["models"]
    answer.current_version_number = number
    answer.machine_shape = asked["machine"]
    answer.docker_image = asked["docker_image"]
    return answer


def _get(context: Context, message: api.ApiGetKernelRequest) -> Answer:
    found, row = _found(context, message)
    answer = api.ApiGetKernelResponse()
    answer.metadata = _metadata(found, row, row["number"])
    blob = api.ApiKernelBlob()
    blob.source, blob.language = row["source"], found["language"]
    blob.kernel_type, blob.slug = found["kind"], found["slug"]
    answer.blob = blob
    return answer


def _list(context: Context, message: api.ApiListKernelsRequest) -> Answer:
    found = []
    mine = message.group == KernelsListViewType.PROFILE
    wanted = (message.search or "").lower()
    for row in kernels.listed(context.state, context.user):
        asked = kernels.request_of(row)
        if mine and row["owner"] != context.user:
            continue
        if message.user and row["owner"] != message.user.lower():
            continue
        if message.competition and message.competition not in asked["competitions"]:
            continue
        if message.dataset and message.dataset not in asked["datasets"]:
            continue
        if message.parent_kernel and message.parent_kernel not in asked["kernels"]:
            continue
        if message.kernel_type not in (None, "", "all", row["kind"]):
            continue
        if message.language not in (None, "", "all", row["language"]):
            continue
        if wanted in row["slug"] or wanted in row["title"].lower():
            found.append(row)
    token = message.page_token or _page_number(message.page, message.page_size)
    rows, following = wire.page(found, token, message.page_size)
    answer = api.ApiListKernelsResponse()
    answer.kernels = [
        _metadata(row, {**row, "created": row["last_run"]}, row["number"]) for row in rows
    ]
    answer.next_page_token = following
    return answer


def _delete(context: Context, message: api.ApiDeleteKernelRequest) -> Answer:
    found = kernels.find(context.state, message.user_name, message.kernel_slug, context.user)
    kernels.delete(context.state, context.user, found)
    return api.ApiDeleteKernelResponse()


def _cancel(context: Context, message: api.ApiCancelKernelSessionRequest) -> Answer:
    try:
        found = lifecycle.session(context.state, message.kernel_session_id)
    except StateError as problem:
        raise not_found("Session not found") from problem
    if found["owner"] != context.user:
        raise forbidden("Permission 'kernelSessions.update' was denied")
    lifecycle.cancel(context.state, found["id"])
    return api.ApiCancelKernelSessionResponse()


def _download(context: Context, message: api.ApiDownloadKernelOutputRequest) -> Answer:
    found = kernels.find(context.state, message.owner_slug, message.kernel_slug, context.user)
    row = kernels.version(context.state, found["id"], message.version_number)
    output = kernels.output(context.state, row, message.file_path or "")
    return redirect(
        files.address(context.state, context.base, "kernel", row["id"], output.name), 302
    )


def _download_zip(context: Context, message: api.ApiDownloadKernelOutputZipRequest) -> Answer:
    from harness.emulator.downloads import kernel_zip

    try:
        found = lifecycle.session(context.state, message.kernel_session_id)
    except StateError as problem:
        raise not_found("Session not found") from problem
    if found["owner"] != context.user:
        raise forbidden("Permission 'kernels.get' was denied")
    return files.send(context.request, kernel_zip(context.state, found), "application/zip")


def _quota(context: Context, _: api.ApiGetAcceleratorQuotaStatisticsRequest) -> Answer:
    state, options = context.state, context.state.options
    refresh = as_datetime(kernels.next_refresh(state.clock.now()))
    answer: dict[str, Any] = {
        "quotaRefreshTime": refresh.isoformat(timespec="milliseconds") + "Z",
    }
    for name, allowed in (("GPU", options.gpu_quota_s), ("TPU", options.tpu_quota_s)):
        used = kernels.used_this_week(state, context.user, name)
        answer[f"{name.lower()}Quota"] = {
            "timeUsed": wire.duration(timedelta(seconds=round(used, 3))),
            "timeReserved": "0s",
            "totalTimeAllowed": wire.duration(timedelta(seconds=allowed)),
            "minimumTimeAllowed": "0s",
            "hasEverRun": used > 0,
        }
    return answer


def _log_stream(context: Context, message: api.ApiGetKernelSessionLogsStreamRequest) -> Answer:
    if message.kernel_session_id:
        try:
            found = lifecycle.session(context.state, message.kernel_session_id)
        except StateError as problem:
            raise not_found("Session not found") from problem
        if found["owner"] != context.user:
            raise forbidden("Permission 'kernels.get' was denied")
        return log_response(context, found)
    _, row = _found(context, message)
    return log_response(context, row)


def stream_logs(context: Context, owner: str, slug: str) -> Response:
    """Answer `GET kernels/logs/stream/{owner}/{slug}`: live while it runs, whole afterwards."""
    found = kernels.find(context.state, owner, slug, context.user)
    label = context.request.args.get("versionLabel", "")
    return log_response(context, kernels.version(context.state, found["id"], label))


def log_response(context: Context, row: dict[str, Any]) -> Response:
    """Give a session's log as events, or as a JSON array when it has ended."""
    run = context.state.run_folder(row["id"])
    if row["final"]:
        return Response(lifecycle.log_document(run), content_type="application/json")
    return Response(
        _events(context, row, run),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-cache"},
        direct_passthrough=True,
    )


def _events(context: Context, row: dict[str, Any], run: Path) -> Iterator[bytes]:
    sent, spoke = 0, time.monotonic()
    while True:
        # Whether it has ended is asked before reading, so no last line is missed.
        row = lifecycle.observe(context.state, row)
        lines = lifecycle.log_lines(run)
        for line in lines[sent:]:
            yield f"data: {line}\n\n".encode()
            spoke = time.monotonic()
        sent = len(lines)
        if row["final"]:
            yield b"data: END_OF_LOG\n\n"
            return
        if time.monotonic() - spoke > _KEEP_ALIVE_S:
            yield b": still running\n\n"
            spoke = time.monotonic()
        time.sleep(_STREAM_POLL_S)


_SERVICE = "kernels.KernelsApiService"

ROUTES = {
    f"{_SERVICE}/SaveKernel": Route(api.ApiSaveKernelRequest, _save),
    f"{_SERVICE}/GetKernelSessionStatus": Route(api.ApiGetKernelSessionStatusRequest, _status),
    f"{_SERVICE}/ListKernelSessionOutput": Route(api.ApiListKernelSessionOutputRequest, _output),
    f"{_SERVICE}/ListKernelFiles": Route(api.ApiListKernelFilesRequest, _files),
    f"{_SERVICE}/GetKernel": Route(api.ApiGetKernelRequest, _get),
    f"{_SERVICE}/ListKernels": Route(api.ApiListKernelsRequest, _list),
    f"{_SERVICE}/DeleteKernel": Route(api.ApiDeleteKernelRequest, _delete),
    f"{_SERVICE}/CancelKernelSession": Route(api.ApiCancelKernelSessionRequest, _cancel),
    f"{_SERVICE}/DownloadKernelOutput": Route(api.ApiDownloadKernelOutputRequest, _download),
    f"{_SERVICE}/DownloadKernelOutputZip": Route(
        api.ApiDownloadKernelOutputZipRequest, _download_zip
    ),
    f"{_SERVICE}/GetKernelSessionLogsStream": Route(
        api.ApiGetKernelSessionLogsStreamRequest, _log_stream
    ),
    f"{_SERVICE}/GetAcceleratorQuotaStatistics": Route(
        api.ApiGetAcceleratorQuotaStatisticsRequest, _quota
    ),
}
