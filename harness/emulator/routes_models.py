"""The models service, in the SDK's messages: what is needed to create, read and delete models."""

from __future__ import annotations

import json
from typing import Any

from kagglesdk.models.types import model_api_service as api
from kagglesdk.models.types.model_enums import ModelFramework
from kagglesdk.models.types.model_types import (
    ModelInstance,
    ModelInstanceVersion,
    ModelInstanceVersionList,
)
from werkzeug.utils import redirect

from harness.emulator import datasets, files, models, wire
from harness.emulator.clock import as_datetime
from harness.emulator.errors import bad_request
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
    answer.instances = [
        _instance(context, row, item) for item in models.instances(context.state, row["id"])
    ]
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
        models.file(context.state, chosen["id"], name)
    return redirect(files.address(context.state, context.base, kind, chosen["id"], name), 302)


def _entry(context: Context, message: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    model = _model(context, message)
    return model, models.instance(
        context.state, model["id"], message.framework.name, message.instance_slug
    )


def _model_instance(
    model: dict[str, Any], row: dict[str, Any], version: dict[str, Any]
) -> ModelInstance:
    answer = ModelInstance()
    answer.id, answer.slug, answer.owner_slug = row["id"], row["slug"], model["owner"]
    answer.framework = ModelFramework[row["framework"]]
    answer.fine_tunable = json.loads(row["request"])["fineTunable"]
    answer.model_id, answer.model_slug = model["id"], model["slug"]
    answer.version_id, answer.version_number = version["id"], version["number"]
    return answer


def _list_instances(context: Context, message: api.ApiListModelInstancesRequest) -> Answer:
    model = _model(context, message)
    page, following = wire.page(
        models.instances(context.state, model["id"]), message.page_token or "", message.page_size
    )
    answer = api.ApiListModelInstancesResponse()
    answer.instances = [
        _model_instance(model, row, models.version(context.state, row["id"], None)) for row in page
    ]
    answer.next_page_token = following
    return answer


def _list_versions(context: Context, message: api.ApiListModelInstanceVersionsRequest) -> Answer:
    model, entry = _entry(context, message)
    page, following = wire.page(
        models.versions(context.state, entry["id"]), message.page_token or "", message.page_size
    )
    listed = ModelInstanceVersionList()
    rows = []
    for row in page:
        item = ModelInstanceVersion()
        item.id, item.version_number = row["id"], row["number"]
        item.model_instance_id, item.variation_slug = entry["id"], entry["slug"]
        item.model_id, item.model_slug, item.owner_slug = model["id"], model["slug"], model["owner"]
        item.model_title = json.loads(model["request"])["title"]
        item.is_private = json.loads(model["request"])["isPrivate"]
        item.framework = ModelFramework[entry["framework"]]
        item.url = (
            f"{SITE}/models/{_path(model, entry['framework'], entry['slug'])}/{row['number']}"
        )
        rows.append(item)
    listed.versions = rows
    answer = api.ApiListModelInstanceVersionsResponse()
    answer.version_list = listed
    answer.next_page_token = following
    return answer


def _masked(message: Any, names: dict[str, str]) -> dict[str, Any]:
    """Read the changes that a request's mask, or else its content, names."""
    mask = message.update_mask
    wanted = {path.rpartition(".")[2] for path in mask.paths} if mask is not None else set()
    return {
        stored: getattr(message, name)
        for name, stored in names.items()
        if (name in wanted or stored in wanted if wanted else name in message)
        and getattr(message, name) is not None
    }


def _updated(number: int, ref: str) -> api.ApiUpdateModelResponse:
    answer = api.ApiUpdateModelResponse()
    answer.id, answer.ref, answer.url = number, ref, f"{SITE}/models/{ref}"
    return answer


def _update(context: Context, message: api.ApiUpdateModelRequest) -> Answer:
    model = _model(context, message)
    names = {
        "title": "title",
        "subtitle": "subtitle",
        "is_private": "isPrivate",
        "description": "description",
        "provenance_sources": "provenanceSources",
    }
    changes = _masked(message, names)
    if not changes.get("title", "something"):
        raise bad_request("The model title must not be empty")
    models.update(context.state, context.user, model, changes)
    return _updated(model["id"], f"{model['owner']}/{model['slug']}")


def _update_instance(context: Context, message: api.ApiUpdateModelInstanceRequest) -> Answer:
    model, entry = _entry(context, message)
    names = {
        "overview": "overview",
        "usage": "usage",
        "fine_tunable": "fineTunable",
        "training_data": "trainingData",
        "license_name": "licenseName",
    }
    models.update(context.state, context.user, model, _masked(message, names), entry["id"])
    return _updated(entry["id"], _path(model, entry["framework"], entry["slug"]))


def _delete(context: Context, message: api.ApiDeleteModelRequest) -> Answer:
    models.delete(context.state, context.user, _model(context, message))
    return api.ApiDeleteModelResponse()


def _delete_instance(context: Context, message: api.ApiDeleteModelInstanceRequest) -> Answer:
    model, entry = _entry(context, message)
    models.delete_instance(context.state, context.user, model, entry["id"])
    return api.ApiDeleteModelResponse()


def _delete_version(context: Context, message: api.ApiDeleteModelInstanceVersionRequest) -> Answer:
    model, entry = _entry(context, message)
    models.delete_version(context.state, context.user, model, entry["id"], message.version_number)
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
    f"{_SERVICE}/ListModelInstances": Route(api.ApiListModelInstancesRequest, _list_instances),
    f"{_SERVICE}/ListModelInstanceVersions": Route(
        api.ApiListModelInstanceVersionsRequest, _list_versions
    ),
    f"{_SERVICE}/UpdateModel": Route(api.ApiUpdateModelRequest, _update),
    f"{_SERVICE}/UpdateModelInstance": Route(api.ApiUpdateModelInstanceRequest, _update_instance),
    f"{_SERVICE}/DeleteModel": Route(api.ApiDeleteModelRequest, _delete),
    f"{_SERVICE}/DeleteModelInstance": Route(api.ApiDeleteModelInstanceRequest, _delete_instance),
    f"{_SERVICE}/DeleteModelInstanceVersion": Route(
        api.ApiDeleteModelInstanceVersionRequest, _delete_version
    ),
}
