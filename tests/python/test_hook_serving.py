"""`python -m hookbus.serving` against a daemon that a test plays: what it offers, answers, and that it comes back."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from conftest import PATIENCE_S, Start, clean_environment
from fake_daemon import Connection, FakeDaemon, call, hook, message, opened
from own_hooks import HEAD

OWN = (
    HEAD
    + """
    \"\"\"Counts, and says so.\"\"\"

    fields = ("loss", "lr")
    gate = {"after_train_iter": "!is_finite(loss)"}
    otherwise = "stop"
    every = {"after_train_iter": "interval"}
    memory = True
    desired = True

    def __init__(self, interval=50):
        self.interval, self.n = interval, 0

    def before_train(self, event, cx):
        cx.log(f"{cx.run!r} {cx.run.facts} {dict(cx.desired)}")

    def after_train_iter(self, event, cx):
        self.n += 1
        cx.log(f"{self.n} {event!r} {event.rss_bytes} {event.held_on} {event.unknown} {dict(cx.memory)} {event.gate}")
        if event.iter == 9:
            cx.lr(scale=0.5, group=1)
            cx.mode(3, ["Mosaic"])
            cx.custom("a", [1])
            cx.stop("enough", logs=[("error", "stop")])

    def state_dict(self):
        return self.n

    def load_state_dict(self, state):
        self.n = state
"""
)


@pytest.fixture
def fake() -> Iterator[FakeDaemon]:
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        daemon = FakeDaemon(Path(folder) / "d.sock")
        yield daemon
        daemon.stop()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Start]:
    """Serves the text as my_hooks.py."""
    started: list[subprocess.Popen[str]] = []

    def start(text: str, address: str, *words: str, **env: str) -> subprocess.Popen[str]:
        (tmp_path / "my_hooks.py").write_text(text)
        command = [sys.executable, "-m", "hookbus.serving", "--module", "my_hooks", *words]
        environment = clean_environment(HOOKBUS_ADDRESS=address, XDG_RUNTIME_DIR=str(tmp_path), **env)
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert out == ""
    return process.returncode, err


def test_what_a_configuration_asks_for_is_offered_with_its_plan(serve: Start, fake: FakeDaemon) -> None:
    serve(OWN, fake.address, HOOKBUS_PROVIDER_TICKET="secret")
    connection = fake.connections.get(timeout=PATIENCE_S)
    introduction = connection.hears("introduction")
    assert (introduction.protocol, introduction.module, introduction.ticket) == (1, "my_hooks", "secret")
    assert introduction.client.startswith("hookbus-python ")
    asked = [hook("Own", interval=7), hook("Own", "second"), hook("Onw"), hook("Own", "third", interva=3)]
    connection.say(assignment=message("Assignment", hooks=asked))
    offer = connection.hears("offer")
    assert [each.request.name for each in offer.hooks] == ["Own", "second"]
    first = offer.hooks[0]
    assert (first.request.type, first.request.args["interval"].integer) == ("Own", 7)
    assert (first.wants_memory, first.wants_state, first.summary) == (True, True, "Counts, and says so.")
    before, after = first.subscriptions
    assert (before.point, before.every.base, before.way, before.deadline_ms) == ("before_train", 0, 1, 2000)
    assert (after.point, after.every.base, after.every.n, list(after.fields)) == (
        "after_train_iter",
        1,
        7,
        ["loss", "lr"],
    )
    assert (after.way, after.when.not_finite, after.otherwise, after.deadline_ms) == (2, "loss", 2, 50)
    assert [each.what for each in offer.refused] == ["hook Onw", "hook third"]
    assert "do you mean Own?" in offer.refused[0].reason
    assert "do you mean interval?" in offer.refused[1].reason


def ready(fake: FakeDaemon, **more: object) -> Connection:
    connection = fake.connection()
    connection.hears("offer")
    connection.say(accepted=message("Accepted"))
    connection.say(opened=opened(**more))
    return connection


def test_calls_are_answered_with_decisions_and_state(serve: Start, fake: FakeDaemon) -> None:
    serve(OWN, fake.address)
    group = message("ParamGroup", base_lr=0.1, name="head")
    facts = message("Facts", max_epochs=3, iters_per_epoch=10, groups=[group], own_scheduler=True, scheduler="StepLR")
    connection = ready(fake, facts=facts, states=[message("HookState", hook="Own", json="40")])
    hold = message("LrHold", group=1, scale=0.5, by="Own")
    desired = message("State", generation=3, lr=message("LrState", holds=[hold]))
    memory = [
        message("MemoryNumber", name="a_bytes", reading=message("Reading", value=1.0, age_s=0.5, source="s")),
        message("MemoryNumber", name="b_bytes", gpu=2, reading=message("Reading", unknown="why")),
    ]
    more = {
        "fields": {"loss": math.nan},
        "unknown": {"lr": "on device"},
        "rss_bytes": 7,
        "gate": True,
        "held_on": [0, 2],
    }
    calls = [call(1, point="before_train", desired=desired), call(2, iter=9, memory=memory, **more), call(3, iter=10)]
    connection.say(calls=message("Calls", calls=calls))
    told, second, third = connection.answers(3)
    assert [(each.run, each.id, each.error) for each in (told, second, third)] == [(1, 1, ""), (1, 2, ""), (1, 3, "")]
    line = told.decisions[0].log.text
    assert "Run(digits@1, attempt 0, 1 ranks)" in line
    assert "'max_epochs': 3" in line
    assert "'groups': [(0.1, 'head')]" in line
    assert "'holds': [{'group': 1, 'scale': 0.5, 'by': 'Own', 'from': 'next'}]" in line
    assert not told.HasField("state_json")
    log, lr, mode, custom, stop = second.decisions
    assert log.log.text == (
        "41 Event(after_train_iter, rank=0, epoch=0, iter=9, inner_iter=9, loss=nan) 7 (0, 2) {'lr': 'on device'} "
        "{'a_bytes': Reading(a_bytes: 1.0, 0.5 s ago), 'b_bytes': Reading(b_bytes of GPU 2: unknown: why, 0.0 s ago)} "
        "True"
    )
    assert (lr.lr.group, lr.lr.scale, lr.lr.WhichOneof("how")) == (1, 0.5, "scale")
    assert (mode.mode.from_epoch, list(mode.mode.skip_types)) == (3, ["Mosaic"])
    assert (custom.custom.name, json.loads(custom.custom.json)) == ("a", [1])
    assert (stop.stop.reason, [(line.level, line.text) for line in stop.stop.logs]) == ("enough", [(4, "stop")])
    assert (second.state_json, third.state_json) == ("41", "42")
    connection.say(facts=message("RunFacts", run=1, facts=message("Facts", max_epochs=9)))
    connection.say(calls=message("Calls", calls=[call(4, point="before_train")]))
    assert "'max_epochs': 9" in connection.answers(1)[0].decisions[0].log.text
    connection.say(closed=message("RunClosed", run=1))
    connection.say(calls=message("Calls", calls=[call(5)]))
    assert connection.answers(1)[0].error == "run 1 was not opened"


def test_a_hook_that_raises_answers_with_its_line(serve: Start, fake: FakeDaemon) -> None:
    process = serve(
        HEAD + "    def after_train_iter(self, event, cx):\n        print('here')\n        1 / 0\n", fake.address
    )
    connection = ready(fake)
    connection.say(calls=message("Calls", calls=[call(1), call(2)]))
    for answer in connection.answers(2):
        assert answer.error == "ZeroDivisionError: division by zero (my_hooks.py:8)"
        assert "1 / 0" in answer.traceback
    process.terminate()
    status, err = ended(process)
    assert status == -signal.SIGTERM
    assert err.count("here\n") == 2, "what a hook prints is no part of anything"


def test_it_comes_back_and_old_answers_are_not_given_to_a_new_connection(serve: Start, fake: FakeDaemon) -> None:
    process = serve(OWN, fake.address)
    connection = ready(fake)
    connection.say(calls=message("Calls", calls=[call(1)]))
    assert connection.answers(1)[0].state_json == "1"
    connection.end()
    again = ready(fake, states=[message("HookState", hook="Own", json="1")])
    again.say(calls=message("Calls", calls=[call(2)]))
    answer = again.answers(1)[0]
    assert (answer.id, answer.state_json) == (2, "2")
    fake.stop()
    again.to_say.put(None)
    process.terminate()
    assert "trying again" in ended(process)[1]


def test_many_calls_are_answered_in_their_order(serve: Start, fake: FakeDaemon) -> None:
    serve(HEAD + "    def after_train_iter(self, event, cx):\n        cx.log('x' * 1000)\n", fake.address)
    connection = ready(fake)
    for first in range(1, 20_001, 500):
        connection.say(calls=message("Calls", calls=[call(id) for id in range(first, first + 500)]))
    assert [answer.id for answer in connection.answers(20_000)] == list(range(1, 20_001))


def test_by_hand_every_type_is_offered_or_those_that_are_named(serve: Start, fake: FakeDaemon) -> None:
    text = OWN + "\n@hookbus.HOOKS.register_module()\nclass Other(Own):\n    priority = 'LOW'\n"
    serve(text, fake.address)
    offer = fake.connection().hears("offer")
    assert [each.request.name for each in offer.hooks] == ["Own", "Other"]
    assert offer.hooks[1].request.args["priority"].text == "LOW"
    serve(text, fake.address, "--hook", "Other(interval=3, name='o')")
    offer = fake.connection().hears("offer")
    assert [(each.request.type, each.request.name) for each in offer.hooks] == [("Other", "o")]
    assert offer.hooks[0].request.args["interval"].integer == 3


def test_by_hand_what_cannot_be_served_ends_with_one_line(serve: Start, fake: FakeDaemon, tmp_path: Path) -> None:
    status, err = ended(serve("import hookbus\nraise ValueError('no')\n", fake.address))
    assert (status, err) == (1, "hookbus: module my_hooks does not import: ValueError: no (my_hooks.py:2)\n")
    status, err = ended(serve(OWN, "host"))
    assert status == 2
    assert err.count("\n") == 1
    process = serve(HEAD + "    def after_train_itr(self, event, cx): ...\n", fake.address)
    fake.connection()
    status, err = ended(process)
    assert status == 1
    assert "refused: hook Own: there is no point after_train_itr" in err
    assert "my_hooks has no hook to serve" in err


def test_who_is_not_allowed_to_ends_and_says_so(serve: Start, fake: FakeDaemon) -> None:
    process = serve(OWN, fake.address)
    fake.connections.get(timeout=PATIENCE_S).to_say.put((grpc.StatusCode.PERMISSION_DENIED, "not an operator"))
    status, err = ended(process)
    assert status == 1
    assert "does not allow this: not an operator" in err
    process = serve(OWN, fake.address)
    reason = message("Fence", reason=6, text="my_hooks is another's")
    fake.connections.get(timeout=PATIENCE_S).say(fence=reason)
    status, err = ended(process)
    assert status == 1
    assert "says: my_hooks is another's" in err


def test_a_module_of_the_configuration_that_does_not_import_is_told_to_the_daemon(
    serve: Start, fake: FakeDaemon
) -> None:
    serve("import nowhere_at_all\n", fake.address, HOOKBUS_PROVIDER_TICKET="t")
    offer = fake.connection(hook("Own"), hook("Own", "second")).hears("offer")
    assert [(each.what, each.reason) for each in offer.refused] == [
        (
            f"hook {name}",
            "module my_hooks does not import: ModuleNotFoundError: No module named 'nowhere_at_all' (my_hooks.py:1)",
        )
        for name in ("Own", "second")
    ]


def test_started_by_a_daemon_it_ends_with_that(fake: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "my_hooks.py").write_text(OWN)
    starts = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-m', 'hookbus.serving', '--module', 'my_hooks'])\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = clean_environment(HOOKBUS_ADDRESS=fake.address, HOOKBUS_PROVIDER_TICKET="t")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    parent = subprocess.Popen([sys.executable, "-c", starts], text=True, env=environment, cwd=tmp_path, **pipes)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    connection = fake.connection(hook("Own"))
    connection.hears("offer")
    parent.kill()
    parent.wait()
    assert connection.heard.get(timeout=PATIENCE_S) is None, "the stream ends with the process"
    assert parent.stderr is not None
    assert "the daemon that started this process is gone" in parent.stderr.read()
    with pytest.raises(ProcessLookupError):
        while True:
            os.kill(child, 0)


def test_ctrl_c_ends_it(serve: Start, fake: FakeDaemon) -> None:
    process = serve(OWN, fake.address)
    fake.connection().hears("offer")
    process.send_signal(signal.SIGINT)
    assert ended(process)[0] == 130
