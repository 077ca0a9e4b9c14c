"""Over TLS with a token: a training that a hook stops, and what is said where token or certificate is wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from conftest import PATIENCE_S, ROOT, Daemon, binary, clean_environment

Run = Callable[..., "subprocess.CompletedProcess[str]"]

TRAINER = "trainer-0123456789abcdef"

LOOP = """
import hookbus, pathlib, sys
address, token_file, ca_file = sys.argv[1:]
hooks = [dict(type="CheckInvalidLossHook", interval=1)]
with hookbus.attach(
    "tls", address=address, token_file=pathlib.Path(token_file), ca_file=ca_file, hooks=hooks, max_epochs=1
) as bus:
    for i in bus.iters(range(10)):
        try:
            bus.report(loss=float("nan") if i == 3 else 1.0)
        except hookbus.TrainingStopped as stop:
            print(i, stop.by)
            break
"""


class Place(NamedTuple):
    daemon: Daemon
    token: Path
    ca: Path


def _token(path: Path, token: str) -> Path:
    path.touch(0o600)
    path.write_text(f"{token}\n")
    return path


@pytest.fixture
def place(tmp_path: Path, start_daemon: Callable[..., Daemon]) -> Place:
    """A daemon that speaks TLS, and the files of a trainer that may attach."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    key.touch(0o600)
    issued.private_key_pem.write_to_path(key)
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    authority.cert_pem.write_to_path(ca)
    token = _token(tmp_path / "trainer", TRAINER)
    config = f"""
[listen]
tcp = "127.0.0.1:0"
tls_cert = "{cert}"
tls_key = "{key}"
[auth]
trainer_token_file = "{token}"
"""
    return Place(start_daemon(config), token, ca)


def test_a_training_over_tls_is_stopped_by_its_hook(run_script: Run, place: Place) -> None:
    assert place.daemon.tcp.startswith("https://")
    done = run_script(LOOP, None, place.daemon.tcp, str(place.token), str(place.ca))
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "3 CheckInvalidLossHook\n",
        "loss become infinite or NaN!\n",
    )
    shown = place.daemon.ask("show", "tls")
    assert shown["run"]["phase"] == "stopped"
    assert shown["run"]["position"]["iter"] == 3


def test_token_and_authorities_are_found_in_the_environment(run_script: Run, place: Place) -> None:
    text = """
import hookbus
with hookbus.attach("tls") as bus:
    print(bus.status()["connected"])
"""
    env = {
        "HOOKBUS_ADDRESS": place.daemon.tcp,
        "HOOKBUS_TOKEN_FILE": str(place.token),
        "HOOKBUS_CA_FILE": str(place.ca),
    }
    done = run_script(text, **env)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_what_is_wrong_with_token_or_authority_is_one_warning_and_the_training_goes_on(
    run_script: Run, place: Place, tmp_path: Path
) -> None:
    wrong = _token(tmp_path / "wrong", "wrong-0123456789abcdef")
    readable = _token(tmp_path / "readable", TRAINER)
    readable.chmod(0o644)
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(other)
    text = LOOP.replace('float("nan") if i == 3 else 1.0', "1.0") + "print('trained')\n"
    plain = place.daemon.tcp.replace("https", "http")
    for address, token, ca, words in [
        (place.daemon.tcp, wrong, place.ca, ("the token is wrong", place.daemon.tcp)),
        (place.daemon.tcp, readable, place.ca, ("has mode 0644", f"chmod 600 {readable}")),
        (place.daemon.tcp, place.token, other, ("an authority that is not believed here", place.daemon.tcp)),
        (plain, place.token, place.ca, ("it speaks TLS; write https://", plain)),
        ("http://gpu7.invalid:7070", place.token, place.ca, ("no token is sent to http://gpu7.invalid:7070",)),
    ]:
        done = run_script(text, None, address, str(token), str(ca))
        assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
        said = done.stderr.strip().splitlines()
        assert len(said) == 1, done.stderr
        for word in (*words, "The training goes on.", "no CheckInvalidLossHook"):
            assert word in said[0]
        assert "0123456789abcdef" not in done.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page's commands need the program openssl")
def test_the_pages_commands_set_it_up(run_script: Run, start_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    page = (ROOT / "docs/security.md").read_text().replace("/etc/hookbus", str(tmp_path / "etc"))
    (commands,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    (config,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    subprocess.run(["bash", "-euc", commands], check=True, capture_output=True, timeout=PATIENCE_S)
    daemon = start_daemon(config.replace("0.0.0.0:7070", "0.0.0.0:0"))
    address = daemon.tcp.replace("0.0.0.0", "127.0.0.1")
    trainer, operator, cert = (str(tmp_path / "etc" / name) for name in ("trainer.token", "operator.token", "cert.pem"))
    done = run_script(LOOP, None, address, trainer, cert)
    assert done.stdout == "3 CheckInvalidLossHook\n", done.stderr
    looked = subprocess.run(
        [str(binary("hookbus")), "--address", address, "--token-file", operator, "--ca-file", cert, "runs"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=clean_environment(),
    )
    assert "tls" in looked.stdout, looked.stderr
    printed = subprocess.run(
        [str(binary("hookbusd")), "--config", str(daemon.folder / "hookbusd.toml"), "--print-config"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        env=clean_environment(),
    )
    assert trainer in printed.stdout
    for file in (trainer, operator):
        token = Path(file).read_text().strip()
        assert token not in printed.stdout + daemon.log.read_text()
