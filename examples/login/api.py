"""An example of an OpsAdmin API behind a proxy that asks `opsadmin auth-server`.

Run it: python3 api.py [PORT]

The API has no code for logins. Three headers tell it who calls, with which roles, and which plans the caller may see. It
listens on the loopback address only: a caller that reaches the API past its proxy can claim to be anybody.
"""

import json
import sys
from urllib.parse import unquote
from wsgiref.simple_server import make_server

ENDPOINTS = ("/my-account", "/plans", "/enrollments")
PLANS = (
    {"name": "Bright Fixed 12", "affiliate": "Bright & Co"},
    {"name": "Linden Green", "affiliate": "Linden"},
)


def plans_for(scope):
    """Returns the plans in the scope that the header OpsadminPlans has. Any other text is an error, never all plans."""
    if scope == "all":
        return [plan["name"] for plan in PLANS]
    kind, _, affiliate = scope.partition("=")
    if kind != "affiliate" or not affiliate:
        raise ValueError("OpsadminPlans is neither `all` nor `affiliate=NAME`")
    return [plan["name"] for plan in PLANS if plan["affiliate"] == unquote(affiliate)]


def api(environ, start_response):
    """Answers a request. A missing header raises KeyError, which is answered with status 500."""
    caller = {
        "account": environ["HTTP_OPSADMINACCOUNT"],
        "roles": environ["HTTP_OPSADMINROLES"].split(","),
        "scope": environ["HTTP_OPSADMINPLANS"],
    }
    endpoint = environ["PATH_INFO"]
    answer = {"endpoint": endpoint, "caller": caller, "plans": plans_for(caller["scope"])}
    status = "200 OK" if endpoint in ENDPOINTS else "404 Not Found"
    start_response(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    with make_server("127.0.0.1", port, api) as server:
        server.serve_forever()
