"""Memory as the daemon tells it, of real trainings: within limits, with workers that share, killed by the kernel."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import cgroups
import netns
import pytest
from conftest import PATIENCE_S, Daemon, Start, binary, clean_environment, ended, operator, said, told

MIB = 1 << 20

# what a trainer has in a group of its own: it enters it before anything else is done
ENTER = """
import os, sys
if sys.argv[1:]:
    with open(sys.argv[1] + "/cgroup.procs", "w") as group:
        group.write(str(os.getpid()))
"""

# four workers that were forked from the trainer share its 200 MiB; each has 1 MiB of its own
SHARED = (
    ENTER
    + """
import hookbus, multiprocessing
shared = bytearray(b"x" * (200 << 20))
def work(ready, stop):
    own = bytearray(b"y" * (1 << 20))
    assert sum(memoryview(shared)[::4096]) > 0   # every page is in this process too
    ready.release()
    stop.wait()
fork = multiprocessing.get_context("fork")
ready, stop = fork.Semaphore(0), fork.Event()
with hookbus.attach("shared", max_epochs=1) as bus:
    workers = [fork.Process(target=work, args=(ready, stop)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    for i in bus.iters(range(2)):
        bus.report(loss=1.0)
    print(os.getpid(), *(worker.pid for worker in workers), flush=True)
    input()
    stop.set()
"""
)


def watched(daemon: Daemon, run: str, is_it) -> dict:
    """The first snapshot of memory that shows it, as the daemon sends them."""
    command = [str(binary("hookbus")), "--address", daemon.address, "memory", run, "--watch", "0.2", "--json"]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment())
    assert watch.stdout is not None
    seen = None
    try:
        for _ in range(PATIENCE_S * 5):
            seen = json.loads(watch.stdout.readline())
            if is_it(seen):
                return seen
    finally:
        watch.kill()
        watch.communicate()
    raise AssertionError(f"it was not seen; last: {json.dumps(seen)[:4000]}")


def pss_bytes(pid: str) -> int:
    text = Path(f"/proc/{pid}/smaps").read_text()
    return sum(int(kib) << 10 for kib in re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE))


def value(reading: dict) -> float | None:
    return reading["value"]


def test_workers_that_share_an_array_are_counted_once_by_pss(start_script: Start, start_daemon) -> None:
    daemon = start_daemon(HOOKBUSD_SAMPLER__SMAPS_MS="300")
    training = start_script(SHARED, daemon.address)
    pids = said(training).split()

    def has_all(seen: dict) -> bool:
        memory = seen["processes"][0]["memory"]
        return memory["workers"] == 4 and value(memory["tree_pss_bytes"]) is not None

    memory = watched(daemon, "shared", has_all)["processes"][0]["memory"]
    truth = sum(pss_bytes(pid) for pid in pids)
    assert value(memory["tree_pss_bytes"]) == pytest.approx(truth, rel=0.02)
    rss = value(memory["rss_bytes"]) + value(memory["children_rss_bytes"])
    assert rss > truth + 4 * 200 * MIB * 0.95, "RSS counts the array in each of the five"
    workers = [child for child in memory["children"] if child["role"] == "worker"]
    assert sorted(str(child["pid"]) for child in workers) == sorted(pids[1:])
    told(training)
    assert ended(training)[0] == 0


def test_in_a_limited_group_the_limit_binds_and_not_the_host(start_script: Start, daemon: Daemon) -> None:
    with cgroups.limited(700 * MIB) as group:
        training = start_script(SHARED, daemon.address, str(group))
        said(training)

        def is_known(seen: dict) -> bool:
            cgroup = seen["processes"][0]["memory"]["cgroup"]
            return cgroup is not None and value(cgroup["working_set_bytes"]) is not None

        seen = watched(daemon, "shared", is_known)
        cgroup = seen["processes"][0]["memory"]["cgroup"]
        assert value(cgroup["limit_bytes"]) == 700 * MIB
        assert 200 * MIB < value(cgroup["working_set_bytes"]) < 700 * MIB
        assert value(seen["host"]["total_bytes"]) > 700 * MIB
        text = operator(daemon, "memory", "shared").stdout
        assert re.search(r"limit\s+700\.0 MiB", text), text
        told(training)
        assert ended(training)[0] == 0


GREEDY = (
    ENTER
    + """
import hookbus
kept = []
with hookbus.attach("greedy", max_epochs=1) as bus:
    for i in bus.iters(range(1000)):
        bus.report(loss=1.0)
        if i == 0:
            print("training", flush=True)
        if i % 2 == 0:
            input()
            kept.append(bytearray(b"x" * (8 << 20)))
"""
)


def test_a_kill_by_the_kernel_is_an_incident_that_says_what_grew(start_script: Start, daemon: Daemon) -> None:
    with cgroups.limited(160 * MIB) as group:
        training = start_script(GREEDY, daemon.address, str(group))
        assert said(training) == "training"
        follow = [str(binary("hookbus")), "--address", daemon.address, "watch", "greedy", "--no-events", "--json"]
        watch = subprocess.Popen(follow, stdout=subprocess.PIPE, text=True, env=clean_environment())
        assert watch.stdout is not None
        try:
            fed(training, daemon)
            for line in watch.stdout:
                happened = json.loads(line)
                if happened["kind"] == "incident" and happened["incident"]["kind"] == "out_of_memory":
                    break
            else:
                raise AssertionError("there is no such incident")
        finally:
            watch.kill()
            watch.communicate()
        text = happened["incident"]["text"]
        assert text.startswith("the kernel killed a process for want of memory"), text
        assert f"/{group.name}, limit 160.0 MiB" in text, text
        assert re.search(r"the main process grew by \d+\.\d MiB to \d+\.\d MiB", text), text
        assert training.wait(PATIENCE_S) == -9
        shown = operator(daemon, "show", "greedy").stdout
        assert "for want of memory" in shown, shown


# a worker that is killed ends its trainer at once, with an exception and a goodbye, as PyTorch's loader does
WORKER = (
    ENTER
    + """
import hookbus, multiprocessing, sys
def work(go):
    kept = []
    while True:
        go.acquire()
        kept.append(bytearray(b"x" * (8 << 20)))
fork = multiprocessing.get_context("fork")
go = fork.Semaphore(0)
with hookbus.attach("greedy", max_epochs=1) as bus:
    worker = fork.Process(target=work, args=(go,), daemon=True)
    worker.start()
    for i in bus.iters(range(1000)):
        bus.report(loss=1.0)
        if i == 0:
            print("training", flush=True)
        sys.stdin.readline()
        go.release()
        worker.join(0.05)
        if worker.exitcode is not None:
            raise RuntimeError(f"DataLoader worker (pid {worker.pid}) is killed by signal: Killed")
"""
)


def has_group(seen: dict) -> bool:
    cgroup = seen["processes"][0]["memory"]["cgroup"]
    return cgroup is not None and value(cgroup["oom_kills"]) is not None


def test_a_killed_worker_is_told_though_its_trainer_says_goodbye_at_once(start_script: Start, daemon: Daemon) -> None:
    with cgroups.limited(160 * MIB) as group:
        training = start_script(WORKER, daemon.address, str(group))
        assert said(training) == "training"
        follow = [str(binary("hookbus")), "--address", daemon.address, "watch", "greedy", "--no-events", "--json"]
        watch = subprocess.Popen(follow, stdout=subprocess.PIPE, text=True, env=clean_environment())
        assert watch.stdout is not None
        try:
            watched(daemon, "greedy", has_group)
            while training.poll() is None:
                try:
                    told(training)
                except BrokenPipeError:
                    break
            for line in watch.stdout:
                happened = json.loads(line)
                if happened["kind"] == "incident" and happened["incident"]["kind"] == "out_of_memory":
                    break
            else:
                raise AssertionError("there is no such incident")
        finally:
            watch.kill()
            watch.communicate()
        assert "for want of memory" in happened["incident"]["text"]
        _, _, err = ended(training)
        assert "is killed by signal" in err, err


def fed(training: subprocess.Popen[str], daemon: Daemon) -> None:
    """Lets it grow a step each time that the daemon has seen it larger, until the kernel kills it."""
    command = [str(binary("hookbus")), "--address", daemon.address, "memory", "greedy", "--watch", "0.1", "--json"]
    watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment())
    assert watch.stdout is not None
    try:
        largest = 0.0
        for line in watch.stdout:
            rss = value(json.loads(line)["processes"][0]["memory"]["rss_bytes"])
            if training.poll() is not None:
                return
            if rss is not None and rss > largest:
                largest = rss
                try:
                    told(training)
                except BrokenPipeError:
                    return
    finally:
        watch.kill()
        watch.communicate()


def test_what_is_scraped_is_what_prometheus_takes(start_script: Start, start_daemon) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    daemon = start_daemon(HOOKBUSD_LISTEN__TCP="127.0.0.1:0", HOOKBUSD_SAMPLER__SMAPS_MS="300")
    training = start_script(SHARED, daemon.address)
    said(training)
    watched(daemon, "shared", lambda seen: value(seen["processes"][0]["memory"]["tree_pss_bytes"]) is not None)
    with urllib.request.urlopen(daemon.tcp + "/metrics", timeout=PATIENCE_S) as reply:
        text = reply.read().decode()
    checked = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", ""), checked
    for name in (
        "hookbus_host_memory_available_bytes",
        'hookbus_process_memory_bytes{run="[^"]*",rank="0",role="worker",kind="pss"}',
        "hookbus_step_duration_seconds_bucket",
        "hookbus_data_wait_seconds_bucket",
        'hookbus_sample_age_seconds{source="host"}',
        'hookbus_rank_sample_age_seconds{run="[^"]*",rank="0",source="smaps"}',
        "hookbus_events_dropped_total",
        "hookbus_run_info",
        "hookbus_sampler_cpu_seconds_total",
    ):
        assert re.search(rf"^{name}", text, re.MULTILINE), f"{name} is not in:\n{text}"
    assert "pid=" not in text
    told(training)
    assert ended(training)[0] == 0


def test_the_run_is_seen_from_another_network_namespace(start_script: Start, start_daemon) -> None:
    with netns.another_machine() as there:
        daemon = start_daemon(
            HOOKBUSD_LISTEN__TCP=f"{netns.HERE}:0", HOOKBUSD_LISTEN__INSECURE="true", HOOKBUSD_SAMPLER__SMAPS_MS="300"
        )
        training = start_script(SHARED, daemon.address)
        said(training)
        watched(daemon, "shared", lambda seen: value(seen["processes"][0]["memory"]["tree_pss_bytes"]) is not None)
        command = [*there, str(binary("hookbus")), "--address", daemon.tcp, "top", "--once"]
        shown = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env=clean_environment(COLUMNS="120"),
            check=False,
        )
        assert shown.returncode == 0, shown.stderr
        assert "shared" in shown.stdout
        assert "workers" in shown.stdout
        assert "\x1b" not in shown.stdout, "a pipe gets plain text"
        told(training)
        assert ended(training)[0] == 0
