"""The competitions service, in the SDK's messages."""

from __future__ import annotations

from typing import Any

from kagglesdk.competitions.types import competition_api_service as api
from kagglesdk.competitions.types.submission_status import SubmissionStatus
from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from harness.emulator import blobs, competitions, files, kernels, wire
from harness.emulator.clock import as_datetime, parse_iso
from harness.emulator.errors import bad_request, not_found
from harness.emulator.routes import Answer, Context, Route
from harness.emulator.routes_datasets import SITE, _page_number

# The service gives competitions without an end a date far away.
_NO_DEADLINE = "2100-01-01T00:00:00Z"


def _competition(context: Context, entry: competitions.Entry) -> api.ApiCompetition:
    spec = entry.spec
    answer = api.ApiCompetition()
    answer.id = entry.id
    answer.ref = answer.url = f"{SITE}/competitions/{spec.slug}"
    answer.title, answer.description = spec.title, spec.description
    answer.category, answer.reward = spec.category, spec.reward
    answer.organization_name = "Local Kaggle"
    answer.evaluation_metric = spec.metric
    answer.deadline = as_datetime(parse_iso(spec.deadline or _NO_DEADLINE))
    answer.enabled_date = answer.date_created = as_datetime(entry.created)
    answer.max_daily_submissions = spec.max_daily_submissions
    answer.max_team_size = 1
    answer.user_has_entered = True
    answer.is_kernels_submissions_only = spec.kind == "code"
    answer.submissions_disabled = entry.closed(context.state.clock.now())
    standings = competitions.leaderboard(context.state, entry, private=False)
    answer.team_count = len(standings)
    ranks = [line.team for line in standings]
    if context.user in ranks:
        answer.user_rank = ranks.index(context.user) + 1
    return answer


def _get(context: Context, message: api.ApiGetCompetitionRequest) -> Answer:
    return _competition(context, competitions.find(context.state, message.competition_name))


def _list(context: Context, message: api.ApiListCompetitionsRequest) -> Answer:
    wanted = (message.search or "").lower()
    found = [
        entry
        for entry in competitions.all_entries(context.state)
        if wanted in entry.spec.slug or wanted in entry.spec.title.lower()
    ]
    token = message.page_token or _page_number(message.page, message.page_size)
    rows, following = wire.page(found, token, message.page_size)
    answer = api.ApiListCompetitionsResponse()
    answer.competitions = [_competition(context, entry) for entry in rows]
    answer.next_page_token = following
    return answer


def _list_files(context: Context, message: api.ApiListDataFilesRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    rows, following = wire.page(
        competitions.data_files(entry), message.page_token or "", message.page_size
    )
    answer = api.ApiListDataFilesResponse()
    listed = []
    for file in rows:
        item = api.ApiDataFile()
        item.name = item.ref = file.name
        item.total_bytes = file.size
        item.creation_date = as_datetime(file.modified)
        listed.append(item)
    answer.files = listed
    answer.next_page_token = following
    return answer


def _download_all(context: Context, message: api.ApiDownloadDataFilesRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    slug = entry.spec.slug
    return redirect(
        files.address(context.state, context.base, "competition-zip", slug, f"{slug}.zip"), 302
    )


def _download_one(context: Context, message: api.ApiDownloadDataFileRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    file = competitions.data_file(entry, message.file_name)
    return redirect(
        files.address(context.state, context.base, "competition", entry.spec.slug, file.name), 302
    )


def _start_upload(context: Context, message: api.ApiStartSubmissionUploadRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name or "")
    token = blobs.start(
        context.state,
        context.user,
        f"SUBMISSION:{entry.spec.slug}",
        message.file_name,
        message.content_length,
    )
    answer = api.ApiStartSubmissionUploadResponse()
    answer.token = token
    answer.create_url = f"{context.base}/upload/{token}"
    return answer


def _submit(context: Context, message: api.ApiCreateSubmissionRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    ref = competitions.submit_upload(
        context.state,
        entry,
        context.user,
        message.blob_file_tokens,
        message.submission_description or "",
    )
    answer = api.ApiCreateSubmissionResponse()
    answer.message, answer.ref = f"Successfully submitted to {entry.spec.title}", ref
    return answer


def _submit_code(context: Context, message: api.ApiCreateCodeSubmissionRequest) -> Answer:
    state = context.state
    entry = competitions.find(state, message.competition_name)
    found = kernels.find(
        state, message.kernel_owner or context.user, message.kernel_slug, context.user
    )
    row = kernels.version(state, found["id"], message.kernel_version)
    if not message.file_name:
        raise bad_request("fileName must name an output of the notebook")
    competitions.check_kernel_for_submission(entry, row, kernels.request_of(row))
    output = kernels.output(state, row, message.file_name)
    ref = competitions.submit_output(
        state,
        entry,
        context.user,
        output.path,
        message.file_name,
        f"{found['owner']}/{found['slug']}/{row['number']}",
        message.submission_description or "",
        row["id"],
    )
    answer = api.ApiCreateCodeSubmissionResponse()
    answer.message, answer.ref = f"Successfully submitted to {entry.spec.title}", ref
    return answer


def _submission(
    context: Context, entry: competitions.Entry, row: dict[str, Any]
) -> api.ApiSubmission:
    answer = api.ApiSubmission()
    answer.ref, answer.file_name = row["ref"], row["file_name"]
    answer.date, answer.description = as_datetime(row["created"]), row["description"]
    answer.status = SubmissionStatus[row["status"]]
    answer.total_bytes = row["size"]
    answer.submitted_by = answer.submitted_by_ref = answer.team_name = row["owner"]
    answer.url = f"{SITE}/submissions/{row['ref']}/{row['ref']}.raw"
    answer.public_score = answer.private_score = ""
    if row["status"] == "COMPLETE":
        answer.public_score = competitions.format_score(row["public"])
        if entry.closed(context.state.clock.now()):
            answer.private_score = competitions.format_score(row["private"])
        if entry.solution is None and row["public"] is None:
            answer.error_description = competitions.NOT_SCORED
    elif row["status"] == "ERROR":
        answer.error_description = row["error"]
    return answer


def _list_submissions(context: Context, message: api.ApiListSubmissionsRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    found = competitions.submissions(context.state, entry.spec.slug, context.user)
    group = message.group.name if message.group is not None else ""
    if group.endswith("_SUCCESSFUL"):
        found = [row for row in found if row["status"] == "COMPLETE"]
    if message.sort_by is not None and message.sort_by.name.endswith("_NAME"):
        found.sort(key=lambda row: row["file_name"])
    token = message.page_token or _page_number(message.page, message.page_size)
    rows, following = wire.page(found, token, message.page_size)
    competitions.count_poll(context.state, rows)
    answer = api.ApiListSubmissionsResponse()
    answer.submissions = [_submission(context, entry, row) for row in rows]
    answer.next_page_token = following
    return answer


def _get_submission(context: Context, message: api.ApiGetSubmissionRequest) -> Answer:
    entry, row = competitions.submission(context.state, message.ref, context.user)
    competitions.count_poll(context.state, [row])
    return _submission(context, entry, row)


def _download_submission(context: Context, message: api.ApiDownloadSubmissionRequest) -> Answer:
    _, row = competitions.submission(context.state, message.submission_id, context.user)
    return redirect(
        files.address(context.state, context.base, "submission", row["ref"], row["file_name"]), 302
    )


def _limits(context: Context, message: api.ApiGetSubmissionLimitsRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    today, total = competitions.used_today(context.state, entry, context.user)
    answer = api.ApiSubmissionLimits()
    answer.num_today, answer.num_total = today, total
    closed = entry.closed(context.state.clock.now())
    answer.num_allowed_now = 0 if closed else max(0, entry.spec.max_daily_submissions - today)
    return answer


def _standings(
    context: Context, entry: competitions.Entry, public: bool = False
) -> list[competitions.Standing]:
    private = entry.closed(context.state.clock.now()) and not public
    return competitions.leaderboard(context.state, entry, private)


def _leaderboard(context: Context, message: api.ApiGetLeaderboardRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    rows, following = wire.page(
        _standings(context, entry, bool(message.override_public)),
        message.page_token or "",
        message.page_size,
    )
    answer = api.ApiGetLeaderboardResponse()
    listed = []
    for line in rows:
        item = api.ApiLeaderboardSubmission()
        item.team_id, item.team_name = line.team_id, line.team
        item.submission_date = as_datetime(line.date)
        item.score = competitions.format_score(line.score)
        listed.append(item)
    answer.submissions = listed
    answer.next_page_token = following
    return answer


def _download_leaderboard(context: Context, message: api.ApiDownloadLeaderboardRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    body = competitions.leaderboard_zip(
        entry, _standings(context, entry), context.state.clock.now()
    )
    return Response(body, content_type="application/zip")


def _pages(context: Context, message: api.ApiListCompetitionPagesRequest) -> Answer:
    entry = competitions.find(context.state, message.competition_name)
    page = api.ApiCompetitionPage()
    page.name, page.content = "description", entry.spec.description or entry.spec.title
    if message.page_name and message.page_name != page.name:
        raise not_found("Page not found")
    answer = api.ApiListCompetitionPagesResponse()
    answer.pages = [page]
    return answer


_SERVICE = "competitions.CompetitionApiService"

ROUTES = {
    f"{_SERVICE}/ListCompetitions": Route(api.ApiListCompetitionsRequest, _list),
    f"{_SERVICE}/GetCompetition": Route(api.ApiGetCompetitionRequest, _get),
    f"{_SERVICE}/ListCompetitionPages": Route(api.ApiListCompetitionPagesRequest, _pages),
    f"{_SERVICE}/ListDataFiles": Route(api.ApiListDataFilesRequest, _list_files),
    f"{_SERVICE}/DownloadDataFile": Route(api.ApiDownloadDataFileRequest, _download_one),
    f"{_SERVICE}/DownloadDataFiles": Route(api.ApiDownloadDataFilesRequest, _download_all),
    f"{_SERVICE}/StartSubmissionUpload": Route(api.ApiStartSubmissionUploadRequest, _start_upload),
    f"{_SERVICE}/CreateSubmission": Route(api.ApiCreateSubmissionRequest, _submit),
    f"{_SERVICE}/CreateCodeSubmission": Route(api.ApiCreateCodeSubmissionRequest, _submit_code),
    f"{_SERVICE}/ListSubmissions": Route(api.ApiListSubmissionsRequest, _list_submissions),
    f"{_SERVICE}/GetSubmission": Route(api.ApiGetSubmissionRequest, _get_submission),
    f"{_SERVICE}/DownloadSubmission": Route(api.ApiDownloadSubmissionRequest, _download_submission),
    f"{_SERVICE}/GetSubmissionLimits": Route(api.ApiGetSubmissionLimitsRequest, _limits),
    f"{_SERVICE}/GetLeaderboard": Route(api.ApiGetLeaderboardRequest, _leaderboard),
    f"{_SERVICE}/DownloadLeaderboard": Route(
        api.ApiDownloadLeaderboardRequest, _download_leaderboard
    ),
}
