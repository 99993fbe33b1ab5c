"""Accounts and uploads: token checks, and the tokens under which bytes come in."""

from __future__ import annotations

from kagglesdk.blobs.types.blob_api_service import (
    ApiBlobType,
    ApiStartBlobUploadRequest,
    ApiStartBlobUploadResponse,
)
from kagglesdk.security.types.oauth_service import (
    IntrospectTokenRequest,
    IntrospectTokenResponse,
)

from harness.emulator import blobs
from harness.emulator.errors import bad_request
from harness.emulator.routes import Answer, Context, Route


def _introspect(context: Context, message: IntrospectTokenRequest) -> Answer:
    answer = IntrospectTokenResponse()
    token, state = message.token, context.state
    unknown = context.guarded and not state.knows_key(token or "")
    if token and not unknown and not state.is_revoked(token):
        answer.active = True
        answer.username = context.state.options.username
        answer.user_id = 1
    return answer


def _start_upload(context: Context, message: ApiStartBlobUploadRequest) -> Answer:
    if message.type == ApiBlobType.API_BLOB_TYPE_UNSPECIFIED:
        raise bad_request("type must be given")
    token = blobs.start(
        context.state, context.user, message.type.name, message.name, message.content_length
    )
    answer = ApiStartBlobUploadResponse()
    answer.token = token
    answer.create_url = f"{context.base}/upload/{token}"
    return answer


ROUTES = {
    "security.OAuthService/IntrospectToken": Route(IntrospectTokenRequest, _introspect, open=True),
    "blobs.BlobApiService/StartBlobUpload": Route(ApiStartBlobUploadRequest, _start_upload),
}
