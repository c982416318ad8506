"""`/metrics`, `/healthz` and `/readyz` as routes for a web server. Library of the dashboard, which mounts them.

Read only, and without a secret: whoever may reach the port may ask. Reading runs in a thread of the server's pool, so
that a slow disk does not hold up its pages.
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from actors.compliance.rulebook import RuleSet
from actors.metrics import health
from actors.metrics.collector import Metrics
from bus.clock import Clock
from config.settings import Settings

NOT_KEPT = {"Cache-Control": "no-store"}


def routes(settings: Settings, rules: RuleSet, clock: Clock, *, db_path: Path, backups: Path) -> list[Route]:
    """Return the three routes. `backups` is the folder that the monitor keeps them in."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Metrics(settings, rules, clock, db_path=db_path, backups=backups))

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, **NOT_KEPT})

    def healthz(_: Request) -> Response:
        """Answer: this process serves. Says nothing of the others."""
        return JSONResponse({"healthy": True}, headers=NOT_KEPT)

    def readyz(_: Request) -> Response:
        missing = health.missing(db_path, clock.now(), settings.bus.dead_s)
        found = {"ready": not missing, "missing": [{"name": one.name, "reason": one.reason} for one in missing]}
        return JSONResponse(found, 503 if missing else 200, headers=NOT_KEPT)

    return [Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)]
