"""Watching ends: a kernel that is stuck or gone is told apart from one that runs and from a silent service."""

from dataclasses import replace

import pytest
from test_ledger import new_run

from harness.commands import watch
from harness.commands.settling import confirm_state
from harness.errors import RemoteUnavailable
from harness.failures import FailureKind
from harness.ledger import Ledger
from harness.records import Handle, RunState
from harness.remote import KernelStatus, ReadRefused
from harness.settings import Settings
from harness.workbench import Workbench


class Service:
    """Answers status questions from a list; an exception in it is raised. The last answer stays."""

    name = "local"

    def __init__(self, *answers):
        self.answers = list(answers)

    def kernel_status(self, handle):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return KernelStatus(answer, None)


@pytest.fixture
def bench(tmp_path, monkeypatch):
    told = []
    ledger = Ledger(tmp_path / "state" / "ledger.sqlite3")
    made = Workbench(Settings(tmp_path, tmp_path / "state"), ledger, told.append)
    made.told = told
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: None)
    yield made
    ledger.close()


def queued(bench):
    run = replace(new_run(), kernel=Handle("me", "ssl", 1), state=RunState.QUEUED)
    return bench.ledger.add_run(run)


def refusal():
    return ReadRefused("status of me/ssl", "Permission 'kernels.get' was denied", 403)


def test_a_kernel_that_the_service_no_longer_knows_is_given_up_as_vanished(bench):
    run = queued(bench)
    bench._remote = Service(RunState.RUNNING, refusal())
    (ended,) = watch.follow(bench, lambda run: None)
    assert (ended.run_id, ended.state) == (run.run_id, RunState.RUNNING)
    assert ended.failure_kind == FailureKind.VANISHED
    assert any("vanished" in line for line in bench.told)


def test_a_refusal_now_and_then_is_no_vanishing(bench):
    queued(bench)
    answers = [refusal() if i % 2 else RunState.RUNNING for i in range(12)]
    bench._remote = Service(*answers, RunState.COMPLETE)
    (ended,) = watch.follow(bench, lambda run: None)
    assert ended.state is RunState.COMPLETE
    assert ended.failure_kind is None


def test_a_kernel_that_never_ends_is_given_up_as_stuck_and_looked_at_again(bench, monkeypatch):
    queued(bench)
    bench._remote = Service(RunState.RUNNING)
    hours = iter(range(1000))
    real = watch.Watchdog
    monkeypatch.setattr(watch, "Watchdog", lambda bench: real(bench, lambda: next(hours) * 3600.0))
    (stuck,) = watch.follow(bench, lambda run: None)
    assert stuck.failure_kind == FailureKind.STUCK
    assert any("no change for" in line for line in bench.told)
    bench._remote = Service(RunState.COMPLETE)
    (ended,) = watch.refresh(bench)
    assert (ended.state, ended.failure, ended.failure_kind) == (RunState.COMPLETE, None, None)


def test_an_unreachable_service_is_sat_out_and_then_said_to_be_unreachable(bench, monkeypatch):
    queued(bench)
    bench._remote = Service(RunState.RUNNING, RemoteUnavailable("No answer."))
    monkeypatch.setitem(watch.OUTAGE_S, bench.settings.remote, -1.0)
    with pytest.raises(RemoteUnavailable):
        watch.follow(bench, lambda run: None)
    (run,) = bench.ledger.runs()
    assert (run.state, run.failure_kind) == (RunState.RUNNING, None)


@pytest.mark.parametrize("remote", ["local", "kaggle"])
def test_an_outage_counts_from_its_first_failure_and_only_the_local_one_is_connected_anew(
    bench, monkeypatch, remote
):
    bench.settings = replace(bench.settings, remote=remote)
    clock, slept, connected = [5000.0], [], []
    monkeypatch.setattr(watch.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(watch.time, "sleep", slept.append)
    monkeypatch.setattr(bench, "reconnect", lambda: connected.append(1))
    gone = RemoteUnavailable("No answer.")
    since = watch.sit_out(bench, gone, None)  # however long ago the last answer was
    clock[0] += watch.OUTAGE_S[remote]
    assert watch.sit_out(bench, gone, since) == since == 5000.0
    clock[0] += 1.0
    with pytest.raises(RemoteUnavailable):
        watch.sit_out(bench, gone, since)
    assert slept == [watch.OUTAGE_PAUSE_S[remote]] * 2
    assert len(connected) == (2 if remote == "local" else 0)


def test_a_log_goes_on_over_a_new_connection_where_it_was(bench):
    run = queued(bench)

    class Logs:
        def follow_log(self, handle):
            yield "one\ntwo\nthree\n"

    bench._remote = Logs()
    first = watch._LogTail(bench, run)
    assert first.rest() == ["one", "two", "three"]
    assert watch._LogTail(bench, run, 2).rest() == ["three"]


def test_the_state_of_an_earlier_session_is_not_believed_twice(bench):
    run = queued(bench)
    bench._remote = Service(RunState.ERROR)
    (run,) = watch.refresh(bench)
    assert run.failure_kind == FailureKind.KERNEL_ERROR
    bench._remote = Service(RunState.RUNNING)
    again = confirm_state(bench, run)
    assert (again.state, again.failure_kind) == (RunState.RUNNING, None)
