"""`supervisor export`: what it writes is accepted by the tool or the schema of each kind, and holds what it must."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from bus.vocabulary import ExitCode
from config import load
from config.settings import Bus
from supervisor import apart, cli, export
from tests.kit.points import ROOT

KUBERNETES = ("1.32", "1.37")
EXPOSURE_MAX = 1.5  # of 10, as systemd-analyze counts: 1.4 was reached
LIVE = """
[llm]
analyst = "openai"
base_url = "https://llm.example.org:8443/v1"
model = "m"
[broker]
kind = "platform"
base_url = "https://mtr.example.org"
email = "you@example.invalid"
account_id = "7"
[scanner]
sources = ["broker"]
[dashboard]
host = "0.0.0.0"
hosts = ["pilot.example.org"]
"""
TEXT = {"type": "string"}
DURATION = {"type": "string", "pattern": "^[0-9]+s$"}
TEXTS = {"type": "array", "items": TEXT, "uniqueItems": True}
MOUNT = {
    "type": "object",
    "properties": {"type": {"const": "bind"}, "source": TEXT, "target": TEXT, "read_only": {"const": True}},
    "required": ["type", "source", "target", "read_only"],
    "additionalProperties": False,
}
# The part of the Compose Specification that is used, and no word beside it: an engine would ignore a misspelt one.
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services", "volumes"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    **dict.fromkeys(("image", "user", "stop_grace_period", "mem_limit"), TEXT),
                    **dict.fromkeys(("cap_drop", "security_opt", "tmpfs", "secrets", "ports", "command"), TEXTS),
                    "init": {"type": "boolean"},
                    "read_only": {"type": "boolean"},
                    "restart": {"const": "unless-stopped"},  # the only one that survives a reboot and counts no starts
                    "environment": {"type": "object", "additionalProperties": TEXT},
                    "volumes": {"type": "array", "items": {"oneOf": [TEXT, MOUNT]}},
                    "healthcheck": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "test": TEXTS,
                            "retries": {"type": "integer"},
                            "interval": DURATION,
                            "timeout": DURATION,
                            "start_period": DURATION,
                        },
                    },
                    "pids_limit": {"type": "integer"},
                    "ulimits": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "logging": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {"driver": TEXT, "options": {"type": "object", "additionalProperties": TEXT}},
                    },
                },
            },
        },
        "volumes": {"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
        "secrets": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "properties": {"file": TEXT},
                "required": ["file"],
                "additionalProperties": False,
            },
        },
    },
}
REQUIRED = ("PILOT_BROKER_PASSWORD", "PILOT_LLM_API_KEY", "PILOT_DASHBOARD_TOKEN")
UNSET = (*REQUIRED, "PILOT_TELEGRAM_TOKEN", "PILOT_TELEGRAM_CHAT", "PILOT_ALERT_URLS", "PILOT_PING_URL")


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a live profile, in a root without `.env` and an environment without secrets but one."""
    found = tmp_path / "mine.toml"
    found.write_text(LIVE)
    for name in (*UNSET, "CREDENTIALS_DIRECTORY", "PILOT_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PILOT_PING_URL", "https://ping.example.org/planted-secret")
    monkeypatch.setattr(load, "env_file", lambda _=None: {})
    return found


def call(kind: str, output: Path, *arguments: str) -> int:
    return cli.main(["export", kind, "--output", str(output), *arguments])


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.example")]):
        yield from yaml.safe_load_all(path.read_text())


# ── refusals ──


def test_what_is_there_is_not_overwritten_and_nothing_else_is_written(
    profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "Procfile").write_text("mine")
    assert call("systemd", output) == ExitCode.USAGE
    assert "holds Procfile already; --force overwrites" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["Procfile"]
    assert call("systemd", output, "--force") == ExitCode.OK
    assert "store: exec supervisor run store" in (output / "Procfile").read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("systemd", "--analysts", "33"), ExitCode.USAGE, "llm=33 is too many"),
        (("systemd", "--user", "a b"), ExitCode.USAGE, "--user was 'a b'; allowed: letters"),
        (("systemd", "--data", "data"), ExitCode.USAGE, "an absolute path"),
        (("systemd", "--data", "/var/lib/x\nUser=root"), ExitCode.USAGE, "--data was"),
        (("compose", "--image", "a b"), ExitCode.USAGE, "--image was"),
        (("systemd", "--profile", "nosuch"), ExitCode.CONFIG, "there is no file"),
        (("nomad",), ExitCode.USAGE, "invalid choice"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, why: str
) -> None:
    try:
        found = call(*arguments[:1], tmp_path / "out", *arguments[1:])
    except SystemExit as ended:
        found = int(str(ended.code))
    assert (found, why in (said := capsys.readouterr().err)) == (code, True), said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('[compliance]\nrules = "/home/me/rules.toml"', "compliance.rules was '/home/me/rules.toml'; a container has"),
        ('[llm]\nanalyst = "openai"\nbase_url = "http://127.0.0.1:8000/v1"\nmodel = "m"', "is the container itself"),
    ],
)
def test_container_that_would_miss_what_the_profile_names_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, why: str
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(line)
    for kind in ("compose", "kubernetes"):
        assert call(kind, tmp_path / "out", "--profile", str(mine)) == ExitCode.CONFIG
        assert why in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "keys",
    ["/etc/prop-firm-pilot/keys", "/var/lib/prop-firm-pilot/keys", "/keys", "/etc/keys", "/run/prop-firm-pilot/a/keys",
     "/usr/keys", "/opt/keys", "/etc/x/../prop-firm-pilot/keys", "/a b/keys", "/a;b/keys"],
)  # fmt: skip
def test_folder_of_keys_that_would_hide_another_is_refused(
    keys: str, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile.write_text(f'[bus]\nlisten = "tcp://*:5577"\nkeys = "{keys}"\n{LIVE}')
    assert call("kubernetes", tmp_path / "out", "--profile", str(profile)) == ExitCode.CONFIG
    assert f"bus.keys was '{keys}'; allowed in a pod: /keys/pilot" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


# ── what all kinds share ──


@pytest.mark.parametrize("kind", export.KINDS)
def test_no_value_of_a_secret_is_written_and_every_name_is(
    kind: str, profile: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PILOT_BROKER_PASSWORD", "planted-secret")
    assert call(kind, tmp_path / "out", "--profile", str(profile), "--json") == ExitCode.OK
    said = json.loads(capsys.readouterr().out)
    assert [Path(name).exists() for name in said["files"]] == [True] * len(said["files"])
    assert len(said["next"]) == 3
    text = "".join(Path(name).read_text() for name in said["files"])
    assert "planted-secret" not in text
    assert {name for name in (*REQUIRED, "PILOT_PING_URL") if name not in text} == set()


# ── systemd ──


def test_units_are_valid_and_let_through_little(profile: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert call("systemd", output, "--profile", str(profile), "--analysts", "3") == ExitCode.OK
    unit = (output / "prop-firm-pilot.service").read_text()
    lines = unit.splitlines()
    command = next(line for line in lines if line.startswith("ExecStart=")).removeprefix("ExecStart=").split()
    assert Path(command[0]).exists()
    assert command[1:] == [
        "--profile", "/etc/prop-firm-pilot/mine.toml", "--procfile", "/etc/prop-firm-pilot/Procfile",
        "--scale", "llm=3",
    ]  # fmt: skip
    assert "OOMPolicy=continue" in lines, "one child over MemoryMax would stop all of them"
    assert {"Type=notify", "KillMode=mixed", "RestartPreventExitStatus=64 75 78", "StateDirectoryMode=0700"} <= {*lines}
    granted = {
        line.removeprefix("LoadCredential=").partition(":")[0] for line in lines if line[:14] == "LoadCredential"
    }
    assert granted == {*REQUIRED, "PILOT_PING_URL"}
    assert "#LoadCredential=PILOT_TELEGRAM_TOKEN:" in unit
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the units were not verified")
    units = sorted(str(path) for path in (*output.glob("*.service"), *output.glob("*.timer")))
    checked = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    unit_path = str(output / "prop-firm-pilot.service")
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX * 10:.0f}", unit_path],
        capture_output=True, text=True,
    )  # fmt: skip
    assert scored.returncode == 0, scored.stdout[-300:]


def test_folders_elsewhere_are_named_to_systemd(profile: Path, tmp_path: Path) -> None:
    where = ("--data", "/srv/pilot", "--run", "/srv/r")
    assert call("systemd", tmp_path / "out", "--profile", str(profile), *where) == ExitCode.OK
    lines = (tmp_path / "out" / "prop-firm-pilot.service").read_text().splitlines()
    assert {"ReadWritePaths=/srv/pilot", "ReadWritePaths=/srv/r", "Environment=PILOT_RUN=/srv/r"} <= {*lines}
    assert not any(line.startswith(("StateDirectory=", "RuntimeDirectory=")) for line in lines)


# ── compose ──


def test_compose_file_is_valid_and_confines_its_one_container(profile: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert call("compose", output, "--profile", str(profile), "--image", "example.org/pilot:1") == ExitCode.OK
    found = yaml.safe_load((output / "compose.yaml").read_text())
    jsonschema.validate(found, COMPOSE)
    (service,) = found["services"].values()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] == f"{export.IMAGE_UID}:{export.IMAGE_UID}"
    assert service["ports"] == ["127.0.0.1:8780:8780"]
    assert {*service["secrets"]} == {*found["secrets"]} == {*REQUIRED, "PILOT_PING_URL"}
    for volume in service["volumes"][1:]:
        assert (output / volume["source"]).is_file()
    assert tomllib.loads((output / "mine.toml").read_text()) == tomllib.loads(LIVE)


# ── Kubernetes ──


def check(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """Validate every document against two versions; return them by kind and name."""
    found = {}
    for one in documents(folder):
        for version in KUBERNETES:
            kubernetes_validate.validate(one, version, strict=True)
        assert "namespace" not in one["metadata"]
        found[one["kind"], one["metadata"]["name"]] = one
    return found


def test_manifests_are_valid_and_never_run_two_stores(profile: Path, tmp_path: Path) -> None:
    assert call("kubernetes", tmp_path / "out", "--profile", str(profile)) == ExitCode.OK
    found = check(tmp_path / "out")
    pipeline = found["Deployment", "prop-firm-pilot"]["spec"]
    assert (pipeline["replicas"], pipeline["strategy"]) == (1, {"type": "Recreate"})
    assert found["PersistentVolumeClaim", "prop-firm-pilot-data"]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    (container,) = pipeline["template"]["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["args"][-1] == "llm=1"
    assert found["ConfigMap", "prop-firm-pilot"]["data"]["mine.toml"].strip() == LIVE.strip()
    secret = found["Secret", "prop-firm-pilot"]["stringData"]
    assert secret == dict.fromkeys((*REQUIRED, "PILOT_PING_URL"), "")  # empty: refused by the product
    assert not list((tmp_path / "out").glob("secret.yaml"))  # `kubectl apply -f` of the folder must not empty a Secret


@pytest.mark.skipif("listen" not in Bus.__struct_fields__, reason="this version has no analysts on other hosts")
def test_analysts_in_pods_of_their_own_get_nothing_of_the_brokers(profile: Path, tmp_path: Path) -> None:
    profile.write_text(f'[bus]\nlisten = "tcp://*:5577"\nkeys = "/keys/pilot"\n{LIVE}')
    assert call("kubernetes", tmp_path / "out", "--profile", str(profile), "--analysts", "2") == ExitCode.OK
    found = check(tmp_path / "out")
    inside = found["Deployment", "prop-firm-pilot"]["spec"]["template"]["spec"]["containers"][0]
    assert inside["args"][-1] == "llm=0"
    assert "PILOT_LLM_API_KEY" not in found["Secret", "prop-firm-pilot"]["stringData"]
    assert {*found["Secret", "prop-firm-pilot-analysts"]["stringData"]} == {"PILOT_LLM_API_KEY"}
    analysts = found["Deployment", "prop-firm-pilot-analysts"]["spec"]["template"]["spec"]
    secrets = {one["secret"]["secretName"] for one in analysts["volumes"] if "secret" in one}
    assert secrets == {"prop-firm-pilot-analysts", "prop-firm-pilot-analysts-keys"}
    assert not any("persistentVolumeClaim" in one for one in analysts["volumes"])
    theirs = tmp_path / "theirs.toml"
    theirs.write_text(found["ConfigMap", "prop-firm-pilot-analysts"]["data"]["mine.toml"])
    assert load.settings(str(theirs)).bus.store == "tcp://prop-firm-pilot-store:5577"  # type: ignore[attr-defined]
    scaler = found["HorizontalPodAutoscaler", "prop-firm-pilot-analysts"]["spec"]
    metric = scaler["metrics"][0]["external"]["metric"]["name"]
    assert f'"{metric}"' in (ROOT / "actors" / "metrics" / "collector.py").read_text()
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 32)


def test_pods_mount_each_place_once_and_are_reached_while_one_process_is_given_up(
    profile: Path, tmp_path: Path
) -> None:
    profile.write_text(f'[bus]\nlisten = "tcp://*:5577"\nkeys = "/etc/pilot/keys"\n{LIVE}')
    assert call("kubernetes", tmp_path / "out", "--profile", str(profile)) == ExitCode.OK
    found = check(tmp_path / "out")
    for (kind, name), one in found.items():
        if kind == "Service":
            assert one["spec"]["publishNotReadyAddresses"] is True, name
        if kind == "Deployment":
            pod = one["spec"]["template"]["spec"]
            for container in (*pod["containers"], *pod["initContainers"]):
                paths = [Path(mount["mountPath"]) for mount in container["volumeMounts"]]
                assert not any(a.is_relative_to(b) for a in paths for b in paths if a is not b), (name, paths)
    assert {name for kind, name in found if kind == "Service"} == {"prop-firm-pilot", "prop-firm-pilot-store"}


def ports_let_out(folder: Path, name: str) -> set[int]:
    spec = check(folder)["NetworkPolicy", name]["spec"]
    return {port["port"] for rule in spec["egress"] if "to" not in rule for port in rule["ports"]}


def test_every_address_of_the_profile_and_of_its_secrets_is_let_out_by_its_port(
    profile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = "json://ann:pw@hooks.example.org:9443/x mailto://a:b@example.org ntfy://n.example.org:2586 jsons://h.example"
    monkeypatch.setenv("PILOT_ALERT_URLS", urls)
    monkeypatch.setenv("PILOT_PING_URL", "https://ping.example.org:8444/planted-secret")
    text = LIVE.replace('["broker"]', '["broker", "twelvedata"]\ntwelvedata_url = "https://bars.example.org:8445"')
    text = text.replace("https://mtr.example.org", "https://mtr.example.org:8446")
    text += '[alerts]\ntelegram_url = "https://bot.example.org:8447"\n'
    profile.write_text(f'[bus]\nlisten = "tcp://*:5577"\nkeys = "/keys/pilot"\n{text}')
    assert call("kubernetes", tmp_path / "out", "--profile", str(profile)) == ExitCode.OK
    expected = {53, 443, 2586, 8443, 8444, 8445, 8446, 8447, 9443}
    assert ports_let_out(tmp_path / "out", "prop-firm-pilot") == expected
    assert ports_let_out(tmp_path / "out", "prop-firm-pilot-analysts") == {53, 443, 8443}
    text = text.replace("https://llm.example.org:8443", "http://llm.example.org")  # a port that is not written
    profile.write_text(f'[bus]\nlisten = "tcp://*:5577"\nkeys = "/keys/pilot"\n{text}')
    assert call("kubernetes", tmp_path / "out", "--profile", str(profile), "--force") == ExitCode.OK
    assert ports_let_out(tmp_path / "out", "prop-firm-pilot-analysts") == {53, 80, 443}


def test_profile_that_does_not_plainly_listen_is_not_turned_into_the_analysts() -> None:
    assert apart.profile_of_analysts('[bus]\nlisten = "tcp://*:1"\n', 1) == (
        '[bus]\nstore = "tcp://prop-firm-pilot-store:1"\n'
    )
    for text in ('bus = {listen = "tcp://*:1"}\n', '[bus]\nlisten = "tcp://*:1"\n[other]\nlisten = "x"\n', ""):
        with pytest.raises(load.ConfigError, match="must stand once"):
            apart.profile_of_analysts(text, 1)


# ── the image ──


def test_image_holds_nothing_but_what_is_named(tmp_path: Path) -> None:
    ignored = (ROOT / ".containerignore").read_text().splitlines()
    rules = [line for line in ignored if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = {line.removeprefix("!") for line in rules if line.startswith("!")}
    containerfile = (ROOT / "Containerfile").read_text()
    copied = {name for line in re.findall(r"(?m)^COPY (?!--from)(.*)$", containerfile) for name in line.split()[:-1]}
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()
    assert f"USER {export.IMAGE_UID}:{export.IMAGE_UID}" in containerfile
    assert f"PILOT_DATA={export.VOLUME}/data" in containerfile
    assert f"PILOT_RUN={export.CONTAINER_RUN}" in containerfile


def test_lock_of_the_image_is_part_of_the_lock_of_all() -> None:
    def pins(name: str) -> dict[str, str]:
        """Return the pinned versions with their hashes."""
        text = (ROOT / name).read_text()
        return {
            match[1]: re.sub(r" ;[^\\\n]*", " ", match[0].split("    # via")[0])
            for match in re.finditer(r"(?m)^([a-z0-9._-]+)==.*(?:\n    .*)*", text)
        }

    image, whole = pins("requirements-image.lock"), pins("requirements.lock")
    assert len(image) > 40
    # The condition behind ; may differ: a tool of development wants some packages on more platforms.
    assert {name for name, pin in image.items() if whole.get(name) != pin} == set()
    assert not {"pytest", "mypy", "ruff", "selenium", "hypothesis"} & image.keys()


# ── another package in our place ──


def test_doctor_names_a_real_package_that_hides_ours(tmp_path: Path) -> None:
    site = tmp_path / "site"
    for folder in ("supervisor", "rival-1.0.dist-info"):
        (site / folder).mkdir(parents=True)
    (site / "supervisor" / "__init__.py").write_text("")
    info = site / "rival-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rival\nVersion: 1.0\n")
    (info / "RECORD").write_text("supervisor/__init__.py,,\nrival-1.0.dist-info/METADATA,,\n")
    (info / "top_level.txt").write_text("supervisor\n")
    code = (
        "import json, msgspec; from actors.console import machine; "
        "print(msgspec.json.encode(machine.packages()).decode())"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    said = [(one["state"], one["found"]) for one in json.loads(done.stdout)]
    assert ("fail", f"supervisor is imported from {site / 'supervisor'}, not from {load.ROOT}") in said
    assert ("fail", "rival installs a package named supervisor, which may hide ours") in said
