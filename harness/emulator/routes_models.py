"""The models service, in the SDK's messages: what is needed to create, read and delete models."""

from __future__ import annotations

import json
from typing import Any

from kagglesdk.models.types import model_api_service as api
from kagglesdk.models.types.model_enums import ModelFramework
from werkzeug.utils import redirect

from harness.emulator import datasets, files, models, wire
from harness.emulator.clock import as_datetime
from harness.emulator.errors import not_found
from harness.emulator.routes import Answer, Context, Route
from harness.emulator.routes_datasets import SITE, new_files


def _created(number: int, ref: str) -> api.ApiCreateModelResponse:
    answer = api.ApiCreateModelResponse()
    answer.id, answer.ref, answer.url = number, ref, f"{SITE}/models/{ref}"
    return answer


def _refused(problem: datasets.Rejected) -> api.ApiCreateModelResponse:
    answer = api.ApiCreateModelResponse()
    answer.error = str(problem)
    return answer


def _create(context: Context, message: api.ApiCreateModelRequest) -> Answer:
    request = {
        "title": message.title,
        "subtitle": message.subtitle or "",
        "isPrivate": bool(message.is_private),
        "description": message.description or "",
        "provenanceSources": message.provenance_sources or "",
    }
    try:
        number = models.create(
            context.state, context.user, message.owner_slug, message.slug, request
        )
    except datasets.Rejected as problem:
        return _refused(problem)
    return _created(number, f"{message.owner_slug}/{message.slug}")


def _model(context: Context, message: Any) -> dict[str, Any]:
    return models.find(context.state, message.owner_slug, message.model_slug, context.user)


def _path(model: dict[str, Any], framework: str, slug: str) -> str:
    return f"{model['owner']}/{model['slug']}/{framework}/{slug}"


def _create_instance(context: Context, message: api.ApiCreateModelInstanceRequest) -> Answer:
    model, body = _model(context, message), message.body
    if body is None:
        body = api.ApiCreateModelInstanceRequestBody()
    framework = body.framework.name
    request = {
        "overview": body.overview or "",
        "usage": body.usage or "",
        "licenseName": body.license_name or "",
        "fineTunable": bool(body.fine_tunable),
        "trainingData": list(body.training_data or []),
    }
    try:
        number = models.create_instance(
            context.state,
            context.user,
            model,
            framework,
            body.instance_slug,
            request,
            new_files(body),
        )
    except datasets.Rejected as problem:
        return _refused(problem)
    return _created(number, _path(model, framework, body.instance_slug))


def _create_version(context: Context, message: api.ApiCreateModelInstanceVersionRequest) -> Answer:
    model, body = _model(context, message), message.body
    entry = models.instance(
        context.state, model["id"], message.framework.name, message.instance_slug
    )
    if body is None:
        body = api.ApiCreateModelInstanceVersionRequestBody()
    try:
        number = models.create_version(
            context.state, context.user, model, entry, body.version_notes or "", new_files(body)
        )
    except datasets.Rejected as problem:
        return _refused(problem)
    return _created(number, _path(model, entry["framework"], entry["slug"]))


def _instance(context: Context, model: dict[str, Any], row: dict[str, Any]) -> api.ApiModelInstance:
    asked = json.loads(row["request"])
    latest = models.version(context.state, row["id"], None)
    answer = api.ApiModelInstance()
    answer.id, answer.slug = row["id"], row["slug"]
    answer.framework = ModelFramework[row["framework"]]
    answer.fine_tunable = asked["fineTunable"]
    answer.overview, answer.usage = asked["overview"], asked["usage"]
    answer.license_name, answer.training_data = asked["licenseName"], asked["trainingData"]
    answer.version_id, answer.version_number = latest["id"], latest["number"]
    answer.url = f"{SITE}/models/{_path(model, row['framework'], row['slug'])}"
    return answer


def _api_model(context: Context, row: dict[str, Any]) -> api.ApiModel:
    asked = json.loads(row["request"])
    answer = api.ApiModel()
    answer.id, answer.slug = row["id"], row["slug"]
    answer.ref = f"{row['owner']}/{row['slug']}"
    answer.author, answer.title, answer.subtitle = row["owner"], asked["title"], asked["subtitle"]
    answer.description, answer.is_private = asked["description"], asked["isPrivate"]
    answer.provenance_sources = asked["provenanceSources"]
    answer.publish_time = answer.update_time = as_datetime(row["created"])
    answer.url = f"{SITE}/models/{answer.ref}"
    with context.state.read() as db:
        rows = db.execute(
            "SELECT * FROM model_instances WHERE model = ? ORDER BY id", (row["id"],)
        ).fetchall()
    answer.instances = [_instance(context, row, dict(item)) for item in rows]
    return answer


def _get(context: Context, message: api.ApiGetModelRequest) -> Answer:
    return _api_model(context, _model(context, message))


def _get_instance(context: Context, message: api.ApiGetModelInstanceRequest) -> Answer:
    model = _model(context, message)
    entry = models.instance(
        context.state, model["id"], message.framework.name, message.instance_slug
    )
    return _instance(context, model, entry)


def _list(context: Context, message: api.ApiListModelsRequest) -> Answer:
    wanted = (message.search or "").lower()
    with context.state.read() as db:
        rows = [dict(row) for row in db.execute("SELECT * FROM models ORDER BY id DESC")]
    found = [
        row
        for row in rows
        if (row["owner"] == context.user or not json.loads(row["request"])["isPrivate"])
        and (not message.owner or row["owner"] == message.owner.lower())
        and (wanted in row["slug"] or wanted in json.loads(row["request"])["title"].lower())
    ]
    page, following = wire.page(found, message.page_token or "", message.page_size)
    answer = api.ApiListModelsResponse()
    answer.models = [_api_model(context, row) for row in page]
    answer.total_results = len(found)
    answer.next_page_token = following
    return answer


def _list_files(context: Context, message: api.ApiListModelInstanceVersionFilesRequest) -> Answer:
    model = _model(context, message)
    entry = models.instance(
        context.state, model["id"], message.framework.name, message.instance_slug
    )
    chosen = models.version(context.state, entry["id"], message.version_number)
    page, following = wire.page(
        models.files(context.state, chosen["id"]), message.page_token or "", message.page_size
    )
    answer = api.ApiListModelInstanceVersionFilesResponse()
    listed = []
    for file in page:
        item = api.ApiModelFile()
        item.name, item.size = file.path, file.size
        item.creation_date = as_datetime(chosen["created"])
        listed.append(item)
    answer.files = listed
    answer.next_page_token = following
    return answer


def _download(context: Context, message: api.ApiDownloadModelInstanceVersionRequest) -> Answer:
    model = _model(context, message)
    entry = models.instance(
        context.state, model["id"], message.framework.name, message.instance_slug
    )
    chosen = models.version(context.state, entry["id"], message.version_number)
    if not message.path:
        kind, name = "model-zip", f"{entry['slug']}.zip"
    else:
        kind, name = "model", message.path
        if name not in {file.path for file in models.files(context.state, chosen["id"])}:
            raise not_found("File not found")
    return redirect(files.address(context.state, context.base, kind, chosen["id"], name), 302)


def _delete(context: Context, message: api.ApiDeleteModelRequest) -> Answer:
    models.delete(context.state, context.user, _model(context, message))
    return api.ApiDeleteModelResponse()


_SERVICE = "models.ModelApiService"

ROUTES = {
    f"{_SERVICE}/CreateModel": Route(api.ApiCreateModelRequest, _create),
    f"{_SERVICE}/CreateModelInstance": Route(api.ApiCreateModelInstanceRequest, _create_instance),
    f"{_SERVICE}/CreateModelInstanceVersion": Route(
        api.ApiCreateModelInstanceVersionRequest, _create_version
    ),
    f"{_SERVICE}/GetModel": Route(api.ApiGetModelRequest, _get),
    f"{_SERVICE}/GetModelInstance": Route(api.ApiGetModelInstanceRequest, _get_instance),
    f"{_SERVICE}/ListModels": Route(api.ApiListModelsRequest, _list),
    f"{_SERVICE}/ListModelInstanceVersionFiles": Route(
        api.ApiListModelInstanceVersionFilesRequest, _list_files
    ),
    f"{_SERVICE}/DownloadModelInstanceVersion": Route(
        api.ApiDownloadModelInstanceVersionRequest, _download
    ),
    f"{_SERVICE}/DeleteModel": Route(api.ApiDeleteModelRequest, _delete),
}
