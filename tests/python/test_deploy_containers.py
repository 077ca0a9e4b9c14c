"""deploy/docker and deploy/kubernetes: the image, what reaches it, and the pod. What cannot run here is a skip."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import shutil
from pathlib import Path, PurePosixPath

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT, binary
from deployed import DEPLOY, EXAMPLE, Serving, run

DOCKERFILE = DEPLOY / "docker/Dockerfile"
MANIFEST = DEPLOY / "kubernetes/training-job.yaml"


def instructions() -> list[tuple[str, list[str]]]:
    """(COPY, its words), with continued lines joined and ARGs of the top put in."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.M)
    text = re.sub(r"\\\n", " ", text)
    args = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.M))
    text = re.sub(r"\$\{(\w+)\}", lambda name: args[name[1]], text)
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    words = [(name, json.loads(rest[rest.index("[") :]) if "[" in rest else shlex.split(rest)) for name, rest in lines]
    assert words[0][0] == "ARG"
    return words


def values(name: str) -> list[list[str]]:
    """The words of every such instruction."""
    return [words for instruction, words in instructions() if instruction == name]


def copied() -> list[tuple[list[str], str]]:
    """(sources, destination) of what comes from the context."""
    copies = [words for words in values("COPY") if not words[0].startswith("--from=")]
    return [(words[:-1], words[-1]) for words in copies]


def sent_to_the_engine(path: str) -> bool:
    """By .dockerignore: the last line that matches the path or a folder above it decides."""
    sent = True
    above = [path, *(str(parent) for parent in PurePosixPath(path).parents if str(parent) != ".")]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.lstrip("!")
        if pattern.startswith("**/"):
            matches = any(fnmatch.fnmatchcase(part, pattern[3:]) for part in PurePosixPath(path).parts)
        else:
            depth = pattern.count("/")
            matches = any(name.count("/") == depth and fnmatch.fnmatchcase(name, pattern) for name in above)
        if matches:
            sent = line.startswith("!")
    return sent


def test_what_the_image_copies_is_there_and_reaches_the_engine() -> None:
    sources = [source for sources, _ in copied() for source in sources]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), f"COPY {source}: there is no such file"
        assert sent_to_the_engine(source), f"COPY {source}: .dockerignore keeps it away"
    for kept_away in ("target", "deploy/README.md", "tests/python/conftest.py", "client/python/python/x/__pycache__"):
        assert not sent_to_the_engine(kept_away), kept_away


def test_what_is_copied_is_a_workspace_with_the_two_programs_that_the_image_s_rust_can_build(tmp_path: Path) -> None:
    for sources, destination in copied():
        for source in sources:
            folder = tmp_path / destination
            if (ROOT / source).is_dir():
                unsent = shutil.ignore_patterns("__pycache__", "*.so", "target")
                shutil.copytree(ROOT / source, folder, dirs_exist_ok=True, ignore=unsent)
            elif source != "LICENSE":
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, folder)
    host = re.search(r"^host: (.+)$", run("rustc", "-vV").stdout, re.M)
    assert host is not None
    place = ["--manifest-path", tmp_path / "Cargo.toml", "--filter-platform", host[1]]
    done = run("cargo", "metadata", "--locked", "--format-version", "1", *place)
    assert done.returncode == 0, done.stderr
    packages = json.loads(done.stdout)["packages"]
    resolved = {node["id"] for node in json.loads(done.stdout)["resolve"]["nodes"]}

    build = next(words for words in values("RUN") if "build" in words)
    asked = [word for at, word in enumerate(build) if "-p" in build[at - 1 : at + 1]]
    # cargo metadata forgives what a build does not; this one ends where it looks for the program, and compiles nothing
    done = run("cargo", "build", "--locked", *place[:2], *asked, "--bin", "no-such-program")
    assert "no bin target named `no-such-program`" in done.stderr, done.stderr
    programs = {
        target["name"]
        for package in packages
        if package["name"] in asked
        for target in package["targets"]
        if "bin" in target["kind"]
    }
    assert programs == {"hookbusd", "hookbus"}
    assert {Path(word).name for word in build if word.startswith("target/release/")} == programs
    assert values("ENTRYPOINT") == [["hookbusd"]]

    image = image_s_rust()
    for package in packages:
        if package["id"] in resolved and package["rust_version"]:
            needed = tuple(int(part) for part in package["rust_version"].split(".")[:2])
            assert needed <= image, f"{package['name']} needs Rust {needed}, the image has {image}"


def image_s_rust() -> tuple[int, int]:
    """1.95 of rust:1.95-slim-bookworm."""
    tag = re.fullmatch(r"rust:(\d+)\.(\d+)-slim-(\w+)", values("FROM")[0][0])
    assert tag is not None, values("FROM")
    return int(tag[1]), int(tag[2])


def test_the_image_s_rust_is_the_workspace_s_and_both_stages_have_one_debian() -> None:
    least = re.search(r'^rust-version = "(\d+)\.(\d+)"', (ROOT / "Cargo.toml").read_text(), re.M)
    channel = re.search(r'^channel = "(.+)"', (ROOT / "rust-toolchain.toml").read_text(), re.M)
    assert least is not None
    assert channel is not None
    assert image_s_rust() >= (int(least[1]), int(least[2]))
    numbered = re.match(r"(\d+)\.(\d+)", channel[1])
    if numbered:
        assert image_s_rust() == (int(numbered[1]), int(numbered[2]))
    build, final = (words[0] for words in values("FROM"))
    assert final == f"debian:{build.rsplit('-', 1)[1]}-slim", "a newer libc than the final stage's would be asked for"


def test_the_image_does_not_run_as_root() -> None:
    names = [name for name, _ in instructions()]
    user = values("USER")[-1][0]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user), (
        f"USER {user}: Kubernetes can tell only of a number that it is not root"
    )
    assert names.index("USER") > len(names) - 1 - names[::-1].index("FROM"), "it is the final stage's"
    assert int(user.split(":")[0]) == pod()["securityContext"]["runAsUser"]


def test_the_image_and_the_pod_write_runs_down_in_one_place_that_their_user_may_write(open_folder: Path) -> None:
    homes = {name: place for words in values("ENV") for name, place in [words[0].split("=", 1)]}
    place = f"{homes['XDG_STATE_HOME']}/hookbus"
    made = [words for words in values("RUN") if words[:1] == ["install"] and place in words]
    assert len(made) == 1
    owner = values("USER")[-1][0].split(":")
    install = made[0][: made[0].index(place) + 1]
    assert [install[install.index("-o") + 1], install[install.index("-g") + 1]] == owner
    assert mounts(sidecar())["state"] == place
    assert "state" not in mounts(trainer())
    (volume,) = [volume for volume in pod()["volumes"] if volume["name"] == "state"]
    assert volume["emptyDir"] == {}, "beyond a sizeLimit the pod would be evicted"
    assert f":{place}" in (DEPLOY / "README.md").read_text()
    # with the image's environment, but for the place
    environment = {"HOOKBUSD_JOURNAL__DIR": "auto", "XDG_STATE_HOME": str(open_folder)}
    with Serving(open_folder, **environment) as daemon:
        assert daemon.says() == "READY=1"
        assert (open_folder / "hookbus").is_dir()
        assert "not written down" not in daemon.log.read_text()


@pytest.mark.parametrize("where", ["HEALTHCHECK", "startupProbe"])
def test_the_check_of_a_container_tells_a_live_daemon_from_a_dead_one(where: str, open_folder: Path) -> None:
    check = values("HEALTHCHECK")[0] if where == "HEALTHCHECK" else sidecar()["startupProbe"]["exec"]["command"]
    address = "unix:///run/hookbus/hookbusd.sock"
    assert check[0] == "hookbus"
    assert address in check
    here = [
        str(binary("hookbus")),
        *(f"unix://{open_folder}/hookbus/hookbusd.sock" if word == address else word for word in check[1:]),
    ]
    assert run(*here).returncode == 1, "nothing is there"
    assert values("ENV")[0] == ["XDG_RUNTIME_DIR=/run"], "where the program's default socket is"
    with Serving(open_folder) as daemon:
        assert daemon.says() == "READY=1"
        assert run(*here).returncode == 0, "it serves"
        daemon.process.kill()
        daemon.process.wait()
        assert daemon.socket.exists(), "the file is left behind"
        assert run(*here).returncode == 1, "it is dead"


def test_the_image_is_built_and_its_programs_start() -> None:
    if shutil.which("docker") is None or run("docker", "info").returncode != 0:
        pytest.skip("no Docker engine answers here")
    done = run("docker", "build", "--quiet", "--file", DOCKERFILE, ROOT)
    assert done.returncode == 0, done.stderr
    for program in ("hookbusd", "hookbus"):
        said = run("docker", "run", "--rm", "--entrypoint", program, done.stdout.strip(), "--version")
        assert said.stdout.startswith(program), said.stderr


# --- Kubernetes


def documents() -> dict[str, dict]:
    """By kind."""
    return {document["kind"]: document for document in yaml.safe_load_all(MANIFEST.read_text())}


def pod() -> dict:
    return documents()["Job"]["spec"]["template"]["spec"]


def sidecar() -> dict:
    return pod()["initContainers"][0]


def trainer() -> dict:
    return pod()["containers"][0]


def mounts(container: dict) -> dict[str, str]:
    """volume -> path."""
    return {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}


def oldest_kubernetes() -> str:
    """As the manifest's first lines say it."""
    said = re.search(r"Kubernetes (\d+\.\d+) or later", MANIFEST.read_text())
    assert said is not None
    return said[1]


@pytest.mark.parametrize("version", [oldest_kubernetes(), kubernetes_validate.latest_version()])
def test_the_manifest_follows_the_schema(version: str) -> None:
    assert list(documents()) == ["ConfigMap", "Job"]
    for document in documents().values():
        kubernetes_validate.validate(document, version, strict=True)
    job = documents()["Job"]
    job["spec"]["template"]["spec"]["shareProcessNamespaces"] = True
    with pytest.raises(kubernetes_validate.ValidationError, match="shareProcessNamespaces"):
        kubernetes_validate.validate(job, version, strict=True)


def test_the_daemon_is_a_native_sidecar_that_sees_the_trainer() -> None:
    assert sidecar()["restartPolicy"] == "Always"
    assert "restartPolicy" not in trainer()
    assert "startupProbe" in sidecar(), "the trainer starts when it has succeeded"
    assert "livenessProbe" not in sidecar()
    assert pod()["shareProcessNamespace"] is True
    assert pod()["restartPolicy"] == "Never"


def test_both_containers_are_one_user_without_rights() -> None:
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] > 0
    for container in (sidecar(), trainer()):
        context = container["securityContext"]
        assert "runAsUser" not in context, "the pod's: the socket has mode 0600, and a run belongs to its user"
        assert context["readOnlyRootFilesystem"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]


def test_socket_folder_address_and_configuration_are_one(tmp_path: Path) -> None:
    (name, text), *others = documents()["ConfigMap"]["data"].items()
    assert not others
    volumes = {volume["name"]: volume for volume in pod()["volumes"]}
    assert volumes["config"]["configMap"]["name"] == documents()["ConfigMap"]["metadata"]["name"]
    assert sidecar()["args"] == ["--config", f"{mounts(sidecar())['config']}/{name}"]
    config = tmp_path / name
    config.write_text(text)
    done = run(binary("hookbusd"), "--config", config, "--check-config")
    assert done.returncode == 0, done.stderr
    printed = run(binary("hookbusd"), "--config", config, "--print-config").stdout
    path = re.search(r'^socket = "(.+)"$', printed, re.M)
    assert path is not None
    assert mounts(sidecar())["socket"] == mounts(trainer())["socket"] == str(PurePosixPath(path[1]).parent)
    assert "emptyDir" in volumes["socket"]
    env = {variable["name"]: variable.get("value") for variable in trainer()["env"]}
    assert env["HOOKBUS_ADDRESS"] == f"unix://{path[1]}"
    assert f"unix://{path[1]}" in sidecar()["startupProbe"]["exec"]["command"]


def test_the_drain_fits_into_the_pod_s_end() -> None:
    deadline = re.search(r"^deadline_ms = (\d+)", EXAMPLE.read_text(), re.M)
    assert deadline is not None
    assert "drain" not in documents()["ConfigMap"]["data"]["hookbusd.toml"], "else compare with that"
    assert pod()["terminationGracePeriodSeconds"] * 1000 > 2 * int(deadline[1])
