"""What another site's page can do with the dashboard, in a real browser that has both open: nothing."""

import http.server
import threading

import pytest

from browser.conftest import CHROMIUM
from polyana.dashboard import open_server
from polyana.registry import Repository


@pytest.fixture
def stranger():
    """The address of another site's page."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>elsewhere</title>")

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def elsewhere(chromium, stranger):
    page = chromium.new_context().new_page()
    page.goto(stranger)
    yield page
    page.context.close()


def test_another_site_reads_and_changes_nothing(elsewhere, watched, address):
    ask = "([url, init]) => fetch(url, init).then(async answer => 'read: ' + await answer.text(), error => 'refused')"
    repository = Repository(watched.home / "hub", watched.river)
    best = repository.resolve("best")
    assert elsewhere.evaluate(ask, [f"{address}api/runs", {}]) == "refused"
    change = {"method": "POST", "mode": "no-cors", "body": '{"step": 100}'}
    answer = elsewhere.evaluate(ask, [f"{address}api/runs/{watched.river}/best", change])
    assert answer in ("refused", "read: ")
    assert repository.resolve("best") == best


def test_another_site_shows_it_in_no_frame(elsewhere, address):
    elsewhere.evaluate(
        "url => { const frame = document.createElement('iframe'); frame.src = url; document.body.append(frame); }",
        address,
    )
    elsewhere.wait_for_function("() => frames.length === 1")
    elsewhere.wait_for_timeout(500)
    (frame,) = elsewhere.main_frame.child_frames
    assert frame.url.startswith("chrome-error:")


def test_a_name_that_was_bent_to_this_machine_is_refused(chromium, address):
    """DNS rebinding: the browser believes that the page of another name is at 127.0.0.1."""
    port = address.split(":")[2].strip("/")
    browser = chromium.browser_type.launch(
        executable_path=str(CHROMIUM), args=["--no-sandbox", "--host-resolver-rules=MAP bent.example 127.0.0.1"]
    )
    page = browser.new_page()
    assert page.goto(f"http://bent.example:{port}/api/runs").status == 403
    assert "not called bent.example" in page.locator("body").inner_text()
    browser.close()


def test_another_address_wants_the_link_with_the_token(chromium, watched):
    where, server = open_server(watched.home, "0.0.0.0", 0)
    thread = threading.Thread(target=server.serve_until_stopped)
    thread.start()
    page = chromium.new_context().new_page()
    try:
        bare = f"http://127.0.0.1:{where.port}/"
        assert page.goto(bare).status == 401
        page.goto(f"{bare}?token={where.token}")
        page.locator(".runs-view").wait_for()
        assert "token" not in page.url  # nor in what the page would send on as its address
        page.goto(bare)  # the browser is known now
        page.locator(".runs-view").wait_for()
    finally:
        page.context.close()
        server.should_exit = True
        thread.join(10)
