"""kagglesdk itself, unmodified, for the calls that the command line does not make."""

import time
from pathlib import Path

import pytest
import requests
from kagglesdk import KaggleClient, KaggleEnv
from kagglesdk.competitions.types.competition_api_service import (
    ApiGetCompetitionRequest,
    ApiGetSubmissionRequest,
)
from kagglesdk.competitions.types.submission_status import SubmissionStatus
from kagglesdk.kernels.types.kernels_api_service import (
    ApiCancelKernelSessionRequest,
    ApiDownloadKernelOutputRequest,
    ApiDownloadKernelOutputZipRequest,
    ApiGetKernelSessionStatusRequest,
    ApiListKernelSessionOutputRequest,
    ApiSaveKernelRequest,
)
from kagglesdk.kernels.types.kernels_enums import KernelExecutionType, KernelWorkerStatus

from tests.emulator.support import Local, scores


@pytest.fixture
def client(local: Local) -> KaggleClient:
    client = KaggleClient(env=KaggleEnv.LOCAL, username="local", password=local.endpoint.key)
    client.http_client()._endpoint = local.url
    return client


def save(client: KaggleClient, text: str, **fields: object):
    request = ApiSaveKernelRequest()
    request.slug, request.new_title = "local/kernel-one", "Kernel One"
    request.text, request.language, request.kernel_type = text, "python", "script"
    request.enable_internet = False
    for name, value in fields.items():
        setattr(request, name, value)
    return client.kernels.kernels_api_client.save_kernel(request)


def test_a_competition_and_a_submission_are_read_by_name_and_number(
    local: Local, client: KaggleClient, tmp_path: Path
):
    local.add_competition(tmp_path, max_daily_submissions=7, deadline="2200-01-01T00:00:00Z")
    request = ApiGetCompetitionRequest()
    request.competition_name = "my-comp"
    competition = client.competitions.competition_api_client.get_competition(request)
    assert (competition.title, competition.max_daily_submissions) == ("My Comp", 7)
    assert competition.deadline.year == 2200
    ref = local.submit(scores(lambda i: i % 2))["ref"]
    wanted = ApiGetSubmissionRequest()
    wanted.ref = ref
    submission = client.competitions.competition_api_client.get_submission(wanted)
    assert submission.status is SubmissionStatus.COMPLETE
    assert (submission.public_score, submission.private_score) == ("1.00000", "")


def test_status_and_output_tell_versions_apart_by_their_label(local: Local, client: KaggleClient):
    for number in (1, 2):
        saved = save(client, f"open('v.txt','w').write('{number}'); assert {number} == 2")
        assert saved.version_number == number
        local.state.wait(number)
    api = client.kernels.kernels_api_client
    seen = {}
    for label in ("v1", "v2", None):
        request = ApiGetKernelSessionStatusRequest()
        request.user_name, request.kernel_slug = "local", "kernel-one"
        if label:
            request.version_label = label
        seen[label] = api.get_kernel_session_status(request).status
    assert seen == {
        "v1": KernelWorkerStatus.ERROR,
        "v2": KernelWorkerStatus.COMPLETE,
        None: KernelWorkerStatus.COMPLETE,
    }
    request.version_label = "2"  # the service wants the v
    with pytest.raises(requests.HTTPError):
        api.get_kernel_session_status(request)
    listing = ApiListKernelSessionOutputRequest()
    listing.user_name, listing.kernel_slug, listing.version_label = "local", "kernel-one", "v1"
    (file,) = api.list_kernel_session_output(listing).files
    assert requests.get(file.url).text == "1"  # outputs are kept although that version failed


def test_outputs_are_downloaded_by_name_and_as_a_zip(local: Local, client: KaggleClient):
    save(client, "open('a.txt','w').write('A')")
    session = local.state.wait(1)
    api = client.kernels.kernels_api_client
    one = ApiDownloadKernelOutputRequest()
    one.owner_slug, one.kernel_slug = "local", "kernel-one"
    one.file_path, one.version_number = "a.txt", 1
    assert api.download_kernel_output(one).content == b"A"
    whole = ApiDownloadKernelOutputZipRequest()
    whole.kernel_session_id = session["id"]
    assert api.download_kernel_output_zip(whole).content.startswith(b"PK")


def test_a_running_session_is_cancelled_and_keeps_its_outputs(local: Local, client: KaggleClient):
    save(client, "open('a.txt','w').write('A'); print('ready'); import time; time.sleep(60)")
    session = local.state.sessions()[0]
    deadline = time.monotonic() + 20
    while "ready" not in local.log(session) and time.monotonic() < deadline:
        time.sleep(0.05)
    request = ApiCancelKernelSessionRequest()
    request.kernel_session_id = session["id"]
    client.kernels.kernels_api_client.cancel_kernel_session(request)
    ended = local.state.wait(session["id"], 20)
    assert ended["status"] == "CANCEL_ACKNOWLEDGED"
    assert local.output(ended, "a.txt") == "A"


def test_a_quick_save_makes_a_version_and_runs_nothing(local: Local, client: KaggleClient):
    saved = save(client, "1/0", kernel_execution_type=KernelExecutionType.QUICK_SAVE)
    assert saved.version_number == 1
    assert local.status("kernel-one") == "NEW_SCRIPT"
    assert not (local.folder / "runs" / "00000001").exists()
