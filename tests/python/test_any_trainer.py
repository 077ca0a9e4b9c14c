"""Any trainer: a client of plain grpcio, generated from the published protos, and the page to write one from."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from conftest import PATIENCE_S, ROOT, Daemon, binary, clean_environment

TRAINER, VIEWER = "trainer-0123456789abcdef", "viewer-0123456789abcdef"
LINE = "loss become infinite or NaN!"

# Before each script: the address and what is shown there come as arguments.
BEGIN = """
import json, math, sys
from pathlib import Path
import grpc
from plain_client import *

address, token, ca = sys.argv[1:]
open_channel = lambda **options: channel(address, token or None, Path(ca).read_bytes() if ca else None, **options)
say = lambda **facts: print(json.dumps(facts), flush=True)
hear = lambda: sys.stdin.readline()
"""


class Place(NamedTuple):
    daemon: Daemon
    address: str
    token: str = ""
    ca: str = ""


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The modules that grpcio-tools makes of the published protos."""
    folder = tmp_path_factory.mktemp("generated")
    protos = sorted((ROOT / "proto/hookbus/v1").glob("*.proto"))
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
    command += [f"--python_out={folder}", f"--grpc_python_out={folder}", *map(str, protos)]
    made = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    # The wheel is called hookbus too, and a folder without this file would come after it.
    for package in ("hookbus", "hookbus/v1"):
        (folder / package / "__init__.py").touch()
    return folder


class Script:
    """A client in a process of its own: its lines of JSON, one after the other."""

    def __init__(self, generated: Path, text: str, *args: str, **env: str) -> None:
        path = f"{generated}{os.pathsep}{Path(__file__).parent}"
        self.process = subprocess.Popen(
            [sys.executable, "-c", text, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(PYTHONPATH=path, GRPC_VERBOSITY="NONE", **env),
        )

    def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(self.process.communicate(timeout=PATIENCE_S)[1])
        return json.loads(line)

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def ends(self) -> None:
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        assert (self.process.returncode, errors) == (0, "")


@pytest.fixture
def run(generated: Path) -> Iterator[Callable[..., Script]]:
    """Starts clients, and ends them with the test."""
    scripts: list[Script] = []

    def start(text: str, place: Place) -> Script:
        scripts.append(Script(generated, BEGIN + text, *place[1:]))
        return scripts[-1]

    yield start
    for script in scripts:
        script.process.kill()
        script.process.communicate()


@pytest.fixture
def unix(daemon: Daemon) -> Place:
    return Place(daemon, daemon.address)


@pytest.fixture
def tls(tmp_path: Path, start_daemon: Callable[..., Daemon]) -> Place:
    """A daemon that speaks TLS, and what a trainer shows it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {name: tmp_path / name for name in ("cert", "key", "ca", "trainer", "viewer")}
    for secret in ("key", "trainer", "viewer"):
        files[secret].touch(0o600)
    issued.private_key_pem.write_to_path(files["key"])
    files["cert"].write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(files["ca"])
    files["trainer"].write_text(TRAINER)
    files["viewer"].write_text(VIEWER)
    config = f"""
[listen]
tcp = "127.0.0.1:0"
tls_cert = "{files["cert"]}"
tls_key = "{files["key"]}"
[auth]
trainer_token_file = "{files["trainer"]}"
viewer_token_file = "{files["viewer"]}"
"""
    daemon = start_daemon(config)
    return Place(daemon, daemon.tcp, TRAINER, str(files["ca"]))


@pytest.fixture(params=["unix", "tls"])
def place(request: pytest.FixtureRequest) -> Place:
    return request.getfixturevalue(request.param)


def _yolox(base: float, iter: int) -> float:
    """YOLOXLrUpdaterHook(num_last_epochs=15, min_lr_ratio=0.05, by_epoch=False, warmup="exp", warmup_iters=5,
    warmup_ratio=1.0, warmup_by_epoch=True) of MMDetection 2.28.2, over 300 epochs of 100 iterations."""
    most, warmup, last = 30000, 500, 1500
    if iter < warmup:
        return base * (1.0 * pow((iter + 1) / warmup, 2))
    target, progress = base * 0.05, iter + 1
    if progress >= most - last:
        return target
    factor = (progress - warmup) / (most - warmup - last)
    return target + 0.5 * (base - target) * (math.cos(math.pi * factor) + 1)


TRAINING = """
hooks = [
    hook("CheckInvalidLossHook", interval=4),
    hook("YOLOXLrUpdaterHook", num_last_epochs=15, min_lr_ratio=0.05, by_epoch=False, warmup="exp", warmup_iters=5,
         warmup_ratio=1.0, warmup_by_epoch=True),
    hook("CheckInvalidLossHok"),
]
own = [0.01, 0.02, 0.01]
client = PlainClient(open_channel(), "plain", hooks=hooks)
welcome = client.attach()
taken = client.facts(max_epochs=300, iters_per_epoch=100, groups=[pb.ParamGroup(base_lr=base) for base in own])
came = [frame.WhichOneof("frame") for frame in client.frames]
schedule = client.schedules[client.state.lr.schedule]
applied = []
for at in iterations(300, 100):
    client.emit("before_train_iter", at)
    applied.append(client.rates(own, at))
    answer = client.emit("after_train_iter", at, gate_s=PATIENCE_S, loss=math.nan if at[1] in (5, 7) else 0.5, acc=0.25)
    if answer and answer.verdict == pb.GATE_VERDICT_STOP:
        break
client.result(answer.decision_id, at, "after_train_iter")
client.wait(lambda: client.seen("ack") and client.seen("ack")[-1].seq == client.next_seq - 1)
client.bye(f"stopped: {answer.reason}", at)
say(
    verdict=welcome.verdict, refused=[(one.what, one.reason) for one in welcome.refused], ack=welcome.ack, came=came,
    taken=[taken.number, len(taken.refused)], hash_is_the_states=len(client.state.lr.schedule_hash) == 32,
    group_curve=list(schedule.group_curve), curves=[list(one.values) for one in schedule.curves], applied=applied,
    stopped_at=at, logs=[(one.level, one.text) for one in answer.logs], by=answer.by, id=answer.decision_id,
    schedule=client.state.lr.schedule, ended=client.ended, sent=client.next_seq - 1,
)
"""


def test_a_training_of_plain_grpcio(run: Callable[..., Script], place: Place) -> None:
    script = run(TRAINING, place)
    said = script.says()
    script.ends()
    assert (said["verdict"], said["ack"], said["taken"], said["ended"]) == (1, 0, [1, 0], "OK: ")
    assert [what for what, _ in said["refused"]] == ["hook CheckInvalidLossHok"]
    assert said["came"] == ["welcome", "state", "schedule", "schedule", "facts_taken"]

    assert (said["group_curve"], len(said["curves"])) == ([0, 1, 0], 2)
    for base, curve in zip((0.01, 0.02), said["curves"], strict=True):
        assert len(curve) == 30000
        for iter in (0, 1, 250, 499, 500, 501, 14999, 28498, 28499, 28500, 29999):
            assert curve[iter] == _yolox(base, iter), iter
    assert said["applied"] == [[_yolox(base, iter) for base in (0.01, 0.02, 0.01)] for iter in range(8)]

    assert said["stopped_at"] == [0, 7, 7], "the one at 5 is not due: every 4 iterations"
    assert (said["logs"], said["by"]) == ([[2, LINE]], "CheckInvalidLossHook")

    shown = place.daemon.ask("show", "plain")
    assert shown["run"]["phase"] == "stopped"
    assert shown["run"]["reason"].startswith(f"CheckInvalidLossHook: {LINE}")
    (rank,) = shown["ranks"]
    assert (rank["events"], rank["acked"], rank["gates"], rank["last"]["acc"]) == (said["sent"], said["sent"], 1, 0.25)
    results = {one["result"]["id"]: one["result"] for one in shown["results"]}
    assert list(results) == [said["schedule"], said["id"]]
    assert {one["outcome"] for one in results.values()} == {"applied"}
    assert results[said["schedule"]]["at"]["iter"] == 0
    assert results[said["schedule"]]["new"] == ", ".join(map(repr, said["applied"][0]))
    assert results[said["id"]]["at"]["iter"] == 7


def test_without_an_authority_a_unix_socket_fails(run: Callable[..., Script], unix: Place) -> None:
    script = run('PlainClient(grpc.insecure_channel(address), "bare").attach()', unix)
    _, errors = script.process.communicate(timeout=PATIENCE_S)
    # HTTP/2's error code 1 is PROTOCOL_ERROR: grpcio's own authority is the socket's path, percent-encoded
    assert "ConnectionError: INTERNAL:" in errors
    assert "RST_STREAM with error code 1" in errors
    assert unix.daemon.ask("runs") == []


OPERATED = """
client = PlainClient(open_channel(), "operated")
client.attach()
client.facts(max_epochs=1, iters_per_epoch=4, groups=[pb.ParamGroup(base_lr=0.5)])
rates = []
for at in iterations(1, 4):
    client.emit("before_train_iter", at)
    rates += client.rates([0.5], at)
    lines = client.commands(at, "before_train_iter")
    say(rates=rates, lines=lines, holds=[[one.scale, one.by] for one in client.state.lr.holds])
    if at[1] < 3:
        wanted = [lambda: client.state.lr.holds, lambda: client.seen("command"), lambda: client.seen("command")[1:]]
        client.wait(wanted[at[1]])
client.bye("finished", at)
"""


def test_operators_reach_it(run: Callable[..., Script], unix: Place) -> None:
    script = run(OPERATED, unix)
    assert script.says()["rates"] == [0.5]
    applied = _send(unix, "operated", "lr", "--scale", "0.5")
    assert (applied.returncode, applied.stderr) == (0, "")
    assert "applied" in applied.stdout
    said = script.says()
    assert said["rates"] == [0.5, 0.25]
    ((scale, by),) = said["holds"]
    assert (scale, by.split()[0]) == (0.5, "operator")

    assert _send(unix, "operated", "log", "half of it from here").returncode == 0
    assert script.says()["lines"] == ["half of it from here"]
    refused = _send(unix, "operated", "checkpoint")
    assert refused.returncode == 1
    assert "unsupported" in refused.stdout
    assert "this client saves no checkpoints" in refused.stdout
    assert script.says()["rates"] == [0.5, 0.25, 0.25, 0.25]
    script.ends()

    shown = unix.daemon.ask("show", "operated")
    assert shown["run"]["phase"] == "finished"
    outcomes = [(one["what"], one["result"]["outcome"], one["result"]["new"]) for one in shown["results"]]
    assert ("lr", "applied", "0.25") in outcomes


def _send(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    command = [str(binary("hookbus")), "--address", place.daemon.address, "send", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, env=clean_environment())


UNANSWERED = """
client = PlainClient(open_channel(), "unanswered", hooks=[hook("CheckInvalidLossHook", interval=1)])
client.attach()
client.facts(max_epochs=1, iters_per_epoch=4)
say(attached=True)
hear()  # the daemon stands still now
at = (0, 0, 0)
answer = client.emit("after_train_iter", at, loss=math.inf)
say(id=answer.decision_id, reason=answer.reason, logs=[one.text for one in answer.logs])
hear()  # it goes on
client.result(answer.decision_id, at, "after_train_iter", reason=answer.reason)
client.wait(lambda: client.seen("ack"))
client.bye(f"stopped: {answer.reason}", at)
"""


def test_a_gate_without_an_answer_does_what_its_otherwise_says(run: Callable[..., Script], unix: Place) -> None:
    script = run(UNANSWERED, unix)
    script.says()
    unix.daemon.process.send_signal(signal.SIGSTOP)
    script.tell()
    assert script.says() == {"id": "local:CheckInvalidLossHook:0", "reason": LINE, "logs": [LINE]}
    unix.daemon.process.send_signal(signal.SIGCONT)
    script.tell()
    script.ends()
    shown = unix.daemon.ask("show", "unanswered")
    assert shown["run"]["phase"] == "stopped"
    assert shown["run"]["reason"].startswith(f"CheckInvalidLossHook: {LINE}")
    assert "gate_timed_out" in [incident["kind"] for incident in shown["incidents"]]


RESUMED = """
client = PlainClient(open_channel(), "resumed")
client.attach()
event = lambda iter: pb.Event(point=POINTS.index("after_train_iter"), iter=iter)
client.batch([event(0), event(1)])
client.wait(lambda: client.seen("ack"))
first_acks = [one.seq for one in client.seen("ack")]
welcome = client.again()
client.next_seq = 2  # the last one again, and a new one
client.batch([event(1), event(2)])
# 4 and 5 were dropped
client.send(holes=pb.Holes(holes=[pb.Hole(first_seq=4, last_seq=5, points={POINTS.index("after_train_iter"): 2})]))
client.next_seq = 6
client.batch([event(5)])
client.wait(lambda: [one for one in client.seen("ack") if one.seq == 6])
client.bye("finished", (0, 5, 5))
say(first_acks=first_acks, verdict=pb.Verdict.Name(welcome.verdict), ack=welcome.ack)
"""


def test_a_reconnect_replays_and_says_its_holes(run: Callable[..., Script], unix: Place) -> None:
    script = run(RESUMED, unix)
    assert script.says() == {"first_acks": [2], "verdict": "VERDICT_RESUMED", "ack": 2}
    script.ends()
    (rank,) = unix.daemon.ask("show", "resumed")["ranks"]
    assert (rank["events"], rank["acked"], rank["dropped_points"]) == (4, 6, {"after_train_iter": 2})


ANEW = """
client = PlainClient(open_channel(), "anew", hooks=[hook("SetEpochInfoHook")])
client.attach()
client.facts(max_epochs=1, iters_per_epoch=4, groups=[pb.ParamGroup(base_lr=0.5)])
client.emit("before_train_iter", (0, 0, 0))
client.wait(lambda: client.state.lr.holds)
client.rates([0.5], (0, 0, 0))
client.wait(lambda: client.seen("ack"))
say(generation=client.state.generation)
hear()  # another daemon is there now
welcome = client.again(open_channel())
client.facts(max_epochs=1, iters_per_epoch=4, groups=[pb.ParamGroup(base_lr=0.5)])
say(
    verdict=pb.Verdict.Name(welcome.verdict), ack=welcome.ack, welcomed=welcome.state.generation,
    holds=len(welcome.state.lr.holds), generation=client.state.generation, set_epoch=client.state.set_epoch.on,
)
client.bye("finished", (0, 0, 0))
"""


def test_a_new_daemon_goes_on_from_the_state_of_hello(
    run: Callable[..., Script], start_daemon: Callable[..., Daemon]
) -> None:
    with tempfile.TemporaryDirectory(prefix="hb") as folder:  # short: a socket's path has 108 bytes at most
        socket = Path(folder) / "s"
        first = start_daemon(socket=socket)
        place = Place(first, first.address)
        script = run(ANEW, place)
        while not first.ask("runs"):  # it attaches
            assert script.process.poll() is None
        assert _send(place, "anew", "lr", "--value", "0.25").returncode == 0
        had = script.says()["generation"]
        first.kill()
        start_daemon(socket=socket)
        script.tell()
        said = script.says()
        assert said == {
            "verdict": "VERDICT_LOST",
            "ack": 1,
            "welcomed": had,
            "holds": 1,
            "generation": had,  # the same hooks from the same facts: nothing is new
            "set_epoch": True,
        }
        script.ends()


REFUSED = """
from concurrent.futures import ThreadPoolExecutor

def ends(*frames, token=token, **hello):
    shown = channel(address, token or None, Path(ca).read_bytes() if ca else None)
    client = PlainClient(shown, "refused", **hello)
    try:
        client.attach()
    except ConnectionError as error:
        return str(error)
    for frame in frames:
        client.send(**frame)
    client.wait(lambda: client.ended)
    return client.ended

event = pb.Event(point=POINTS.index("after_train_iter"))
many = [pb.Event(point=3)] * 8193
first = PlainClient(open_channel(), "held")
first.attach()
second = PlainClient(open_channel(), "held", launch=first.identity["launch"])
try:
    second.attach()
except ConnectionError as error:
    duplicate = str(error)
superseded = PlainClient(open_channel(), "held", launch=first.identity["launch"], attempt=1)
superseded.attach()
first.wait(lambda: first.seen("fence"))
say(
    version=ends(protocol=2),
    duplicate=duplicate,
    superseded=pb.FenceReason.Name(first.seen("fence")[0].reason),
    rank=ends(rank=1, world_size=1),
    second_hello=ends({"hello": pb.Hello(protocol=1)}),
    empty=ends({}),
    point=ends({"batch": pb.EventBatch(first_seq=1, events=[pb.Event(point=99)])}),
    number=ends({"batch": pb.EventBatch(first_seq=0, events=[event])}),
    name=ends({"batch": pb.EventBatch(first_seq=1, new_points=[pb.Name(id=0, name="other")])}),
    events=ends({"batch": pb.EventBatch(first_seq=1, events=many)}),
    bytes=ends({"bye": pb.Bye(reason="x" * (1 << 20))}),
    string=ends({"bye": pb.Bye(reason="x" * 4097)}),
)
"""


def test_what_is_wrong_is_named(run: Callable[..., Script], unix: Place) -> None:
    said = run(REFUSED, unix).says()
    for what, words in {
        "version": "FENCE_REASON_VERSION: this daemon speaks protocol 1, the client 2",
        "duplicate": "FENCE_REASON_DUPLICATE: another live process holds rank 0",
        "superseded": "FENCE_REASON_SUPERSEDED",
        "rank": "INVALID_ARGUMENT: rank 1 is not below the world size 1",
        "second_hello": "INVALID_ARGUMENT: rank 0 of run refused",
        "empty": "INVALID_ARGUMENT: ",
        "point": "point id 99 is not in the name table",
        "number": "numbers begin at 1",
        "name": "it cannot become",
        "events": "RESOURCE_EXHAUSTED: ",
        "bytes": "RESOURCE_EXHAUSTED: ",
        "string": "INVALID_ARGUMENT: ",
    }.items():
        assert words in said[what], (what, said[what])


TOKENS = """
def ends(token):
    client = PlainClient(channel(address, token, Path(ca).read_bytes()), "tokens")
    try:
        client.attach()
    except ConnectionError as error:
        return str(error)

say(none=ends(None), wrong=ends("wrong-0123456789abcdef"), viewer=ends("viewer-0123456789abcdef"))
"""


def test_only_a_trainers_token_attaches_over_tls(run: Callable[..., Script], tls: Place) -> None:
    said = run(TOKENS, tls).says()
    for what, words in {
        "none": "PERMISSION_DENIED: to attach a training over TCP one needs the role trainer, and no token was shown",
        "wrong": "UNAUTHENTICATED: the token is wrong",
        "viewer": "PERMISSION_DENIED: to attach a training over TCP one needs the role trainer, and this token is for",
    }.items():
        assert words in said[what], said


STANDARD = """
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hookbus.v1 import control_pb2, inspect_pb2, providers_pb2

services = ["hookbus.v1.HookBus", "hookbus.v1.Inspect", "hookbus.v1.Control", "hookbus.v1.Providers"]
there = channel(address, None, Path(ca).read_bytes()) if ca else open_channel()
check = health_pb2_grpc.HealthStub(there).Check
health = [check(health_pb2.HealthCheckRequest(service=name)).status for name in ["", *services]]

# grpcio-reflection has the messages of v1alpha only; those of v1 are the same
ask = there.stream_stream(
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    reflection_pb2.ServerReflectionRequest.SerializeToString,
    reflection_pb2.ServerReflectionResponse.FromString,
)
requests = [reflection_pb2.ServerReflectionRequest(list_services="")]
requests += [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name)
             for name in [*services, "hookbus.v1.Position"]]
listed, *files = ask(iter(requests))
served = {}
for file in files:
    for data in file.file_descriptor_response.file_descriptor_proto:
        proto = descriptor_pb2.FileDescriptorProto.FromString(data)
        served[proto.name] = sorted(message.name for message in proto.message_type)
ours = {
    module.DESCRIPTOR.name: sorted(module.DESCRIPTOR.message_types_by_name)
    for module in (types_pb2, pb, inspect_pb2, control_pb2, providers_pb2)
}
try:
    old = reflection_pb2_grpc.ServerReflectionStub(there).ServerReflectionInfo(iter(requests))
    old = next(old).WhichOneof("message_response")
except grpc.RpcError as error:
    old = error.code().name
say(
    health=health, listed=[service.name for service in listed.list_services_response.service],
    same=[name for name in ours if served.get(name) == ours[name]], old=old,
)
"""


def test_health_and_reflection_are_the_standard_ones(run: Callable[..., Script], place: Place) -> None:
    said = run(STANDARD, place).says()
    assert said["health"] == [1, 1, 1, 1, 1], "SERVING"
    services = ("HookBus", "Inspect", "Control", "Providers")
    assert {f"hookbus.v1.{name}" for name in services} <= set(said["listed"])
    files = ("types", "session", "inspect", "control", "providers")
    assert said["same"] == [f"hookbus/v1/{name}.proto" for name in files]
    assert said["old"] == "list_services_response", "v1alpha is what many tools still ask for"


@pytest.fixture
def example(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """The page's own commands and example, in a folder of their own."""
    page = (ROOT / "docs/clients.md").read_text()
    ((install, generate),) = (block.strip().splitlines() for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL))
    (text,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert install.startswith("pip install")
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    generate = generate.replace("python -m", f"{sys.executable} -m", 1)
    subprocess.run(["bash", "-euc", generate], cwd=tmp_path, check=True, capture_output=True, timeout=PATIENCE_S)
    # The environment of these tests has the wheel, which the page says to be without.
    for package in ("hookbus", "hookbus/v1"):
        (tmp_path / package / "__init__.py").touch()
    started: list[subprocess.Popen[str]] = []

    def start(address: str, *changes: tuple[str, str]) -> subprocess.Popen[str]:
        changed = text
        for old, new in changes:
            assert old in changed
            changed = changed.replace(old, new, 1)
        (tmp_path / "example.py").write_text(changed)
        process = subprocess.Popen(
            [sys.executable, "example.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=clean_environment(HOOKBUS_ADDRESS=address, PYTHONPATH=str(tmp_path)),
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_the_pages_example_is_stopped_by_its_hook(example: Callable[..., Any], unix: Place) -> None:
    process = example(unix.address)
    assert process.communicate(timeout=PATIENCE_S) == (f"{LINE}\nstopped at iteration 14\n", "")
    shown = unix.daemon.ask("show", "example")
    assert shown["run"]["phase"] == "stopped"
    assert shown["run"]["reason"].startswith(f"CheckInvalidLossHook: {LINE}")
    assert (shown["ranks"][0]["events"], shown["run"]["position"]["iter"]) == (30, 14)


def test_the_pages_example_answers_operators(example: Callable[..., Any], unix: Place) -> None:
    endless = "EPOCHS, ITERS, POINTS, METRICS = 2, ", "EPOCHS, ITERS, POINTS, METRICS = 10**9, "
    step = "loss = 1.0 if iter < 12 else math.nan", "loss = 1.0; time.sleep(0.001); iter or print(iter, flush=True)"
    process = example(unix.address, endless, step)
    assert process.stdout.readline() == "0\n"  # it trains
    unsupported = _send(unix, "example", "checkpoint")
    assert (unsupported.returncode, "the example can stop, and nothing else" in unsupported.stdout) == (1, True)
    assert _send(unix, "example", "lr", "--scale", "0.5").returncode == 1
    assert _send(unix, "example", "stop").returncode == 0
    said, errors = process.communicate(timeout=PATIENCE_S)
    assert (said.splitlines()[-1].split()[:3], errors) == (["stopped", "at", "iteration"], "")
    assert unix.daemon.ask("show", "example")["run"]["phase"] == "stopped"


def test_the_pages_example_trains_without_a_daemon(example: Callable[..., Any], tmp_path: Path) -> None:
    process = example(f"unix://{tmp_path}/none.sock", ("loss = ", "print(iter); loss = "))
    said, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said.split()) == (0, [str(iter) for iter in range(20)])
    assert errors.endswith("the training goes on\n")
    assert len(errors.splitlines()) == 1
