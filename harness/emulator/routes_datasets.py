"""The datasets service, in the SDK's messages."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kagglesdk.datasets.types import dataset_api_service as api
from kagglesdk.datasets.types.dataset_enums import DatabundleVersionStatus
from kagglesdk.datasets.types.dataset_types import DatasetInfo, SettingsLicense
from werkzeug.utils import redirect

from harness.emulator import blobs, datasets, files, wire
from harness.emulator.clock import as_datetime
from harness.emulator.errors import ApiError, bad_request, forbidden, not_found
from harness.emulator.routes import Answer, Context, Route
from harness.emulator.state import State

SITE = "https://www.kaggle.com"


def new_files(message: Any) -> list[datasets.NewFile]:
    """Flatten a request's files and folders."""
    found = [datasets.NewFile(item.token or "", item.description or "") for item in message.files]
    found += _in_folders(message.directories or [], "")
    return found


def _in_folders(folders: Iterable[Any], above: str) -> list[datasets.NewFile]:
    found = []
    for folder in folders:
        name = folder.name
        if not name or name in (".", "..") or any(mark in name for mark in "/\\"):
            raise bad_request(f"{name!r} is not a valid folder name")
        path = f"{above}/{name}" if above else name
        found += [
            datasets.NewFile(item.token or "", item.description or "", path)
            for item in folder.files or []
        ]
        found += _in_folders(folder.directories or [], path)
    return found


def _status(context: Context, message: api.ApiGetDatasetStatusRequest) -> Answer:
    if message.owner_slug.lower() != context.user:
        raise not_found("Dataset not found")
    found = datasets.find(context.state, message.owner_slug, message.dataset_slug, context.user)
    answer = api.ApiGetDatasetStatusResponse()
    answer.status = DatabundleVersionStatus[datasets.poll(context.state, found["id"])]
    return answer


def _created(owner: str, slug: str, error: str = "") -> api.ApiCreateDatasetResponse:
    answer = api.ApiCreateDatasetResponse()
    if error:
        answer.status, answer.error = "error", error
        return answer
    answer.ref = f"/datasets/{owner}/{slug}"
    answer.url = f"{SITE}/datasets/{owner}/{slug}"
    answer.status, answer.error = "ok", ""
    return answer


def _create(context: Context, message: api.ApiCreateDatasetRequest) -> Answer:
    owner, slug = message.owner_slug or context.user, message.slug or ""
    try:
        datasets.create(
            context.state,
            context.user,
            owner=owner,
            slug=slug,
            title=message.title or "",
            license_name=message.license_name or "",
            private=message.is_private,
            new=new_files(message),
            subtitle=message.subtitle or "",
            description=message.description or "",
            tags=message.category_ids or [],
        )
    except datasets.Rejected as problem:
        return _created(owner, slug, str(problem))
    return _created(owner.lower(), slug)


def _add_version(context: Context, found: dict[str, Any], body: Any) -> Answer:
    body = body or api.ApiCreateDatasetVersionRequestBody()
    try:
        datasets.create_version(
            context.state,
            context.user,
            found,
            new_files(body),
            body.version_notes or "",
            body.delete_old_versions,
        )
    except datasets.Rejected as problem:
        return _created(found["owner"], found["slug"], str(problem))
    return _created(found["owner"], found["slug"])


def _version(context: Context, message: api.ApiCreateDatasetVersionRequest) -> Answer:
    try:
        found = datasets.find(context.state, message.owner_slug, message.dataset_slug, context.user)
    except ApiError as problem:
        # The service does not say whether it exists.
        raise forbidden("Permission 'datasets.update' was denied") from problem
    return _add_version(context, found, message.body)


def _version_by_id(context: Context, message: api.ApiCreateDatasetVersionByIdRequest) -> Answer:
    with context.state.read() as db:
        row = db.execute("SELECT * FROM datasets WHERE id = ?", (message.id,)).fetchone()
    if row is None:
        raise forbidden("Permission 'datasets.update' was denied")
    return _add_version(context, dict(row), message.body)


def _dataset(state: State, row: dict[str, Any]) -> api.ApiDataset:
    answer = api.ApiDataset()
    answer.id = row["id"]
    answer.ref = f"{row['owner']}/{row['slug']}"
    answer.title, answer.subtitle = row["title"], row["subtitle"]
    answer.description, answer.license_name = row["description"], row["license"]
    answer.owner_name = answer.owner_ref = answer.creator_name = row["owner"]
    answer.url = f"{SITE}/datasets/{answer.ref}"
    answer.is_private = bool(row["private"])
    answer.last_updated = as_datetime(row["created"])
    listed = []
    for entry in datasets.versions(state, row["id"]):
        if entry["status"] != "READY":
            continue
        item = api.ApiDatasetVersion()
        item.version_number = entry["number"]
        item.creation_date = as_datetime(entry["created"])
        item.creator_name = item.creator_ref = row["owner"]
        item.version_notes, item.status = entry["notes"], "Ready"
        listed.append(item)
        answer.current_version_number = entry["number"]
        answer.last_updated = item.creation_date
        answer.total_bytes = datasets.total_size(state, entry["id"])
    answer.versions = listed[::-1]
    return answer


def _get(context: Context, message: api.ApiGetDatasetRequest) -> Answer:
    found = datasets.find(context.state, message.owner_slug, message.dataset_slug, context.user)
    return _dataset(context.state, found)


def _list(context: Context, message: api.ApiListDatasetsRequest) -> Answer:
    mine = message.group is not None and "_MY" in message.group.name
    wanted = (message.search or "").lower()
    found = []
    for row in context.state.datasets()[::-1]:
        visible = row["owner"] == context.user or not row["private"]
        if mine and row["owner"] != context.user:
            continue
        if message.user and row["owner"] != message.user.lower():
            continue
        if visible and (wanted in row["slug"] or wanted in row["title"].lower()):
            found.append(row)
    token = message.page_token or _page_number(message.page, message.page_size)
    rows, following = wire.page(found, token, message.page_size)
    answer = api.ApiListDatasetsResponse()
    answer.datasets = [_dataset(context.state, row) for row in rows]
    answer.next_page_token = following
    return answer


def _page_number(page: int | None, size: int | None) -> str:
    return str((page - 1) * (size or wire.DEFAULT_PAGE_SIZE)) if page and page > 1 else ""


def _list_files(context: Context, message: api.ApiListDatasetFilesRequest) -> Answer:
    found = datasets.find(context.state, message.owner_slug, message.dataset_slug, context.user)
    chosen = datasets.version(context.state, found["id"], message.dataset_version_number)
    rows, following = wire.page(
        datasets.files(context.state, chosen["id"]), message.page_token or "", message.page_size
    )
    answer = api.ApiListDatasetFilesResponse()
    listed = []
    for file in rows:
        item = api.ApiDatasetFile()
        item.name = item.ref = file.path
        item.dataset_ref, item.owner_ref = f"{found['owner']}/{found['slug']}", found["owner"]
        item.total_bytes = file.size
        item.description = file.description
        item.creation_date = as_datetime(chosen["created"])
        listed.append(item)
    answer.dataset_files = listed
    answer.next_page_token = following
    return answer


def _metadata(context: Context, message: api.ApiGetDatasetMetadataRequest) -> Answer:
    found = datasets.find(context.state, message.owner_slug, message.dataset_slug, context.user)
    info = DatasetInfo()
    info.dataset_id, info.dataset_slug = found["id"], found["slug"]
    info.owner_user, info.title = found["owner"], found["title"]
    info.subtitle, info.description = found["subtitle"], found["description"]
    info.is_private = bool(found["private"])
    info.keywords = json.loads(found["tags"])
    name = SettingsLicense()
    name.name = found["license"]
    info.licenses = [name]
    answer = api.ApiGetDatasetMetadataResponse()
    answer.info = info
    return answer


def _update_metadata(context: Context, message: api.ApiUpdateDatasetMetadataRequest) -> Answer:
    found = datasets.find(context.state, message.owner_slug, message.dataset_slug, context.user)
    if found["owner"] != context.user:
        raise forbidden("Permission 'datasets.update' was denied")
    answer = api.ApiUpdateDatasetMetadataResponse()
    new = message.settings
    if new is None:
        raise bad_request("settings must be given")
    title = new.title or found["title"]
    license_name = new.licenses[0].name if new.licenses else found["license"]
    errors = []
    if not 6 <= len(title) <= 50:
        errors.append("The dataset title must be between 6 and 50 characters")
    if license_name not in datasets.LICENSES:
        errors.append(f"Invalid license: {license_name}")
    answer.errors = errors
    if not errors:
        with context.state.write() as db:
            db.execute(
                "UPDATE datasets SET title = ?, subtitle = ?, description = ?, license = ?,"
                " private = ?, tags = ? WHERE id = ?",
                (
                    title,
                    new.subtitle or found["subtitle"],
                    new.description or found["description"],
                    license_name,
                    int(new.is_private),
                    json.dumps(list(new.keywords or json.loads(found["tags"]))),
                    found["id"],
                ),
            )
    return answer


def _download(context: Context, message: Any) -> Answer:
    found = datasets.find(context.state, message.owner_slug, message.dataset_slug, context.user)
    chosen = datasets.version(context.state, found["id"], message.dataset_version_number)
    name = message.file_name or ""
    if not name:
        target = files.address(
            context.state, context.base, "dataset-zip", chosen["id"], f"{found['slug']}.zip"
        )
        return redirect(target, 302)
    datasets.file(context.state, chosen["id"], name)
    return redirect(files.address(context.state, context.base, "dataset", chosen["id"], name), 302)


def _delete(context: Context, message: api.ApiDeleteDatasetRequest) -> Answer:
    found = datasets.find(context.state, message.owner_slug, message.dataset_slug, context.user)
    datasets.delete(context.state, context.user, found)
    return api.ApiDeleteDatasetResponse()


def _old_upload(context: Context, message: api.ApiUploadDatasetFileRequest) -> Answer:
    token = blobs.start(
        context.state, context.user, "DATASET", message.file_name, message.content_length
    )
    answer = api.ApiUploadDatasetFileResponse()
    answer.token = token
    answer.create_url = f"{context.base}/upload/{token}"
    return answer


_SERVICE = "datasets.DatasetApiService"

ROUTES = {
    f"{_SERVICE}/GetDatasetStatus": Route(api.ApiGetDatasetStatusRequest, _status),
    f"{_SERVICE}/CreateDataset": Route(api.ApiCreateDatasetRequest, _create),
    f"{_SERVICE}/CreateDatasetVersion": Route(api.ApiCreateDatasetVersionRequest, _version),
    f"{_SERVICE}/CreateDatasetVersionById": Route(
        api.ApiCreateDatasetVersionByIdRequest, _version_by_id
    ),
    f"{_SERVICE}/GetDataset": Route(api.ApiGetDatasetRequest, _get),
    f"{_SERVICE}/ListDatasets": Route(api.ApiListDatasetsRequest, _list),
    f"{_SERVICE}/ListDatasetFiles": Route(api.ApiListDatasetFilesRequest, _list_files),
    f"{_SERVICE}/GetDatasetMetadata": Route(api.ApiGetDatasetMetadataRequest, _metadata),
    f"{_SERVICE}/UpdateDatasetMetadata": Route(
        api.ApiUpdateDatasetMetadataRequest, _update_metadata
    ),
    f"{_SERVICE}/DownloadDataset": Route(api.ApiDownloadDatasetRequest, _download),
    f"{_SERVICE}/DownloadDatasetRaw": Route(api.ApiDownloadDatasetRawRequest, _download),
    f"{_SERVICE}/DeleteDataset": Route(api.ApiDeleteDatasetRequest, _delete),
    f"{_SERVICE}/UploadDatasetFile": Route(api.ApiUploadDatasetFileRequest, _old_upload),
}
