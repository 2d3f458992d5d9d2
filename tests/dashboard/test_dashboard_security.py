"""What a stranger's page, another machine or a path with dots gets: nothing."""

import json
import socket

import pytest

from polyana.dashboard import PageGuard
from polyana.dashboard.security import PAGE_POLICY, policy_of
from polyana.tracking import MetricLog


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "192.168.0.7", ""])
def test_a_name_that_is_not_ours_is_refused(serve, host):
    browser = serve()
    browser.host = host.format(port=browser.port)
    status, _, body = browser.ask("GET", "/api/runs")
    assert status == 403
    assert json.loads(body)["error"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_our_names_are_answered_also_through_a_tunnel(serve, host):
    browser = serve()
    browser.host = f"{host}:9999"  # ssh -L 9999:localhost:PORT
    assert browser.ask("GET", "/api/runs")[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "http://localhost:{port}"])
def test_another_page_changes_and_reads_nothing(serve, make_run, origin):
    run, browser = make_run(), serve()
    given = {"Origin": origin.format(port=browser.port)}
    assert browser.ask("PATCH", f"/api/runs/{run.name}", {"notes": "x"}, **given)[0] == 403
    assert browser.ask("POST", "/api/series", {"series": []}, **given)[0] == 403
    assert browser.ask("GET", "/api/runs", **given)[0] == 403
    assert not (run.path / "notes.json").exists()
    ours = {"Origin": f"http://{browser.host}"}
    assert browser.ask("PATCH", f"/api/runs/{run.name}", {"notes": "x"}, **ours)[0] == 200


def test_a_form_without_an_origin_is_refused(serve, make_run):
    run, browser = make_run(), serve()
    status, *_ = browser.ask("POST", f"/api/runs/{run.name}/best", {"step": 1}, Sec_Fetch_Site="cross-site")
    assert status == 403


def test_other_machines_need_the_token(serve, make_run):
    """It comes with the link, goes on in a cookie, and works as a bearer's for scripts."""
    make_run()
    browser = serve("0.0.0.0")
    browser.host = f"{socket.gethostname()}:{browser.port}"
    for path in ("/", "/api/runs", "/api/live", "/?token=wrong", "/files/x/y"):
        assert browser.ask("GET", path)[0] == 401
    assert browser.ask("GET", "/api/runs", Authorization="Bearer wrong")[0] == 401
    assert browser.ask("GET", "/api/runs", Authorization=f"Bearer {browser.token}")[0] == 200
    status, headers, _ = browser.ask("GET", f"/run/a?token={browser.token}&x=1")
    assert (status, headers["location"]) == (303, "/run/a?x=1")
    cookie = headers["set-cookie"]
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    assert browser.ask("GET", "/api/runs", Cookie=cookie.partition(";")[0])[0] == 200
    browser.host = "evil.example"
    assert browser.ask("GET", "/api/runs", Authorization=f"Bearer {browser.token}")[0] == 403


def test_a_token_is_made_for_what_others_can_reach():
    assert PageGuard("127.0.0.1").token is None
    assert PageGuard("0.0.0.0", "t").knows("10.0.0.7")
    assert not PageGuard("0.0.0.0", "t").knows("evil.example")
    assert not PageGuard("127.0.0.1").knows("10.0.0.7")


@pytest.mark.parametrize(
    "path",
    ["../run.json", "..%2frun.json", "%2e%2e/%2e%2e/secret", "....//secret", "%2fetc%2fpasswd", "/etc/passwd",
     "link", "samples/..%5c..%5csecret", "samples"],
)  # fmt: skip
def test_no_path_leads_out_of_a_run(serve, make_run, home, path):
    run, _ = make_run(), (home / "secret").write_text("treasure")
    (run.path / "link").symlink_to(home / "secret")
    status, _, body = serve().ask("GET", f"/files/{run.name}/{path}")
    assert status == 404
    assert b"treasure" not in body


@pytest.mark.parametrize("name", ["..", ".", "..%2f..", "%2e%2e", "a%2fb", "%00"])
def test_no_run_is_called_by_a_path(serve, home, name):
    browser = serve()
    (home / "run.json").write_text("{}")
    for path in (f"/api/runs/{name}/log", f"/files/{name}/run.json", f"/api/runs/{name}"):
        status, headers, _ = browser.ask("GET", path)
        assert status == 404 or headers["content-type"].startswith("text/html")  # the page's own address


def test_what_a_run_has_written_is_shown_in_a_sandbox(serve, make_run):
    run, browser = make_run(), serve()
    (run.path / "page.html").write_text("<script>parent.document.body.remove()</script>")
    (page,) = browser.get(f"/api/runs/{run.name}")["pages"]
    _, headers, _ = browser.ask("GET", page["url"])
    policy = headers["content-security-policy"]
    assert "sandbox allow-scripts;" in policy
    assert "allow-same-origin" not in policy
    assert "default-src 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"


def test_our_own_pages_load_only_our_own(serve):
    _, headers, _ = serve().ask("GET", "/")
    assert headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in headers["content-security-policy"]


def test_text_from_runs_is_json_never_html(serve, make_run):
    run, browser = make_run(), serve()
    log = MetricLog(run.metrics, 10, "", print)
    log.event(11, "<script>", what="<img src=x onerror=alert(1)>")
    log.close()
    _, headers, _ = browser.ask("GET", f"/api/runs/{run.name}")
    assert headers["content-type"] == "application/json"
    (run.path / "recipe.yaml").write_text("<script>")
    assert browser.ask("GET", f"/api/runs/{run.name}/recipe")[1]["content-type"].startswith("text/plain")


def test_a_page_runs_no_script_but_those_it_was_built_with():
    """The hash is what `openssl dgst -sha256 -binary | base64` says of it."""
    policy = policy_of(b"<html><script>doSomething();</script><script src='x.js'></script></html>")
    assert policy.startswith(PAGE_POLICY)
    assert policy.endswith("; script-src 'self' 'sha256-RFWPLDbv2BY+rCkDzsE+0fr8ylGr2R2faWMhq4lfEQc='")
    assert "unsafe" not in policy
    assert policy_of(b"<p>none</p>").endswith("; script-src 'self'")
