"""The page of metrics, the dashboard and the alert rules name only what is exposed, and all of it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import yaml
from prometheus_client.core import Metric

from actors.compliance import rulebook
from actors.metrics.collector import Metrics
from bus import messages
from bus.vocabulary import Role, Status
from config import load
from store import connection
from store.gauges import EVENTS, LEVELS
from tests.kit.builders import a_peer, a_sample
from tests.kit.store import StoreHarness

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "metrics.md"
RULES = ROOT / "deploy" / "alert-rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
SUFFIXES = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",), "gauge": ("",)}
ADDED_BY_PROMETHEUS = {"le", "instance", "job"}


class Exposed(NamedTuple):
    """One metric as the table of the page has it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    text: str


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exposed]:
    """Return everything that can be exposed, by name: with an account, a backup and budgets."""
    folder = tmp_path_factory.mktemp("data")
    usual = load.settings("paper")
    llm = msgspec.structs.replace(usual.llm, day_tokens_max=1_000, day_cost_max="1.50")
    settings = msgspec.structs.replace(usual, llm=llm)
    store = StoreHarness(connection.open_writer(folder / "decisions.db"))
    store.tell(a_peer(Role.MONITOR), messages.SampleEquity(sample=a_sample()))
    (folder / "decisions-20261101T000000Z.db").write_text("x")
    rules = rulebook.load(settings.compliance.rules)
    metrics = Metrics(settings, rules, store.clock, db_path=folder / "decisions.db", backups=folder)
    found = [_exposed(family) for family in metrics.collect()]
    store.db.close()
    return {one.name: one for one in found}


def _exposed(family: Metric) -> Exposed:
    name = family.name + ("_total" if family.type == "counter" else "")
    return Exposed(name, family.type, tuple(family._labelnames), family.documentation)  # type: ignore[attr-defined]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield every expression of both files, with where it stands."""
    for rule in rules():
        yield f"rule {rule['alert']}", rule["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]


def test_the_table_of_the_page_is_what_is_exposed(exposed: dict[str, Exposed]) -> None:
    table = re.findall(r"^\| `(pilot_\w+)` \| (\w+) \| ([\w, ]*) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    found = {
        name: Exposed(name, kind, tuple(labels.split(", ")) if labels else (), text)
        for name, kind, labels, text in table
    }
    assert found == exposed
    assert len(table) == len(found)


def test_every_expression_names_metrics_and_labels_that_exist(exposed: dict[str, Exposed]) -> None:
    samples = {one.name.removesuffix(suffix) + suffix: one for one in exposed.values() for suffix in SUFFIXES[one.kind]}
    checked = 0
    for where, expression in expressions():
        bare = re.sub(r'"[^"]*"', '""', expression)
        names = re.findall(r"\bpilot_\w+", bare)
        assert names, where
        known = set(ADDED_BY_PROMETHEUS)
        for name in names:
            assert name in samples, f"{where}: {name} is not exposed"
            known |= set(samples[name].labels)
            checked += 1
        grouped = re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", bare)
        used = {label.strip() for group in grouped for label in group.split(",") if label.strip()}
        used |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=~|!~|!=|=)", bare))
        assert used <= known, f"{where}: {used - known} are no labels of {names}"
        assert bare.count("(") == bare.count(")"), where
    assert checked > 60


def test_every_legend_names_a_label_of_its_expression(exposed: dict[str, Exposed]) -> None:
    labels = {label for one in exposed.values() for label in one.labels}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels, panel["title"]


def test_values_in_matchers_are_words_of_ours() -> None:
    said = {
        word
        for _, expression in expressions()
        for value in re.findall(r'"([^"]+)"', expression)
        for word in value.split("|")
    }
    known = {
        *map(str, Role),
        *map(str, Status),
        *EVENTS,
        *LEVELS,
        "beating",
        "missing",
        "clean",
        "failed",
        "soft",
        "hard",
    }
    known |= {"true", "false", "ok", "refused", "none", "all", "read", "write", "main", "wal"}
    assert said <= known, said - known


def test_every_alert_is_whole_and_explained_with_its_command() -> None:
    page = dict(re.findall(r"^\| (Pilot\w+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE))
    found = rules()
    assert [rule["alert"] for rule in found] == list(page), "the page explains them in the order of the file"
    for rule in found:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule
        assert re.fullmatch(r"Pilot[A-Za-z]+", rule["alert"])
        assert rule["labels"] == {"severity": rule["labels"]["severity"]}
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert set(rule["annotations"]) == {"summary", "command"}
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))
        command = rule["annotations"]["command"].replace("{{ $labels.status }}", "pending")
        assert f"`{command}`" in page[rule["alert"]], f"{rule['alert']}: the page names another command than {command}"


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed; the tests above need none")
def test_promtool_agrees() -> None:
    ended = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_only_the_metrics_load_what_only_they_need() -> None:
    loading = [
        str(path.relative_to(ROOT))
        for room in ("actors", "bus", "config", "store", "supervisor")
        for path in (ROOT / room).rglob("*.py")
        if re.search(r"^\s*(from|import) (prometheus_client|actors\.metrics)", path.read_text(), re.MULTILINE)
    ]
    assert [
        one for one in loading if not one.startswith(("actors/metrics/", "actors/dashboard.py", "actors/web/"))
    ] == []
