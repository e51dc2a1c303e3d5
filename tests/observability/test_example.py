"""examples/jaeger: the script with and without receivers, and what is around it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

EXAMPLE = Path(__file__).parents[2] / "examples" / "jaeger"


def run(receiver, prometheus):
    environment = os.environ | {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver,
        "PROMETHEUS": prometheus,
    }
    return subprocess.run(
        [sys.executable, EXAMPLE / "shop.py"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )


def test_without_receivers_it_says_so_and_ends_well():
    done = run("http://127.0.0.1:9", "http://127.0.0.1:9")
    assert "21 paid, on its way" in done.stdout
    assert "Nobody listens at http://127.0.0.1:9" in done.stdout
    assert done.stdout.count("trace ") == 2
    assert "workflow_complete" in done.stderr


def test_with_receivers_they_get_traces_and_metrics(http_receiver):
    done = run(http_receiver.endpoint, http_receiver.endpoint)
    assert "See them at" in done.stdout
    spans = http_receiver.spans()
    failed, resumed = (span for span in spans if span.name == "orders")
    assert [link.trace_id for link in resumed.links] == [failed.trace_id]
    in_second = {span.name for span in spans if span.trace_id == resumed.trace_id}
    assert "reserve" not in in_second
    assert {"charge", "ship_slowly"} <= in_second
    assert http_receiver.bodies["/api/v1/otlp/v1/metrics"]


def test_the_services_mount_files_that_are_there():
    compose = yaml.safe_load((EXAMPLE / "compose.yaml").read_text())
    assert set(compose["services"]) == {"jaeger", "prometheus", "grafana"}
    for service in compose["services"].values():
        assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])
        for volume in service.get("volumes", ()):
            source, _, _ = volume.split(":")
            assert (EXAMPLE / source).is_file()


@pytest.mark.parametrize(
    "name", ["prometheus.yaml", *map("grafana/{}".format, ("datasources.yaml", "dashboards.yaml"))]
)
def test_the_settings_of_the_services_are_well_formed(name):
    assert isinstance(yaml.safe_load((EXAMPLE / name).read_text()), dict)


def test_the_panels_of_the_dashboard_ask_sources_that_there_are():
    dashboard = json.loads((EXAMPLE / "grafana" / "plait.json").read_text())
    sources = yaml.safe_load((EXAMPLE / "grafana" / "datasources.yaml").read_text())
    uids = {source["uid"] for source in sources["datasources"]}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    for panel in dashboard["panels"]:
        assert panel["datasource"]["uid"] in uids
        for target in panel["targets"]:
            assert re.search(r"\b(?:plait|sequential|parallel)_\w+", target["expr"])
