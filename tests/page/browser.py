"""A browser without a screen, driven by WebDriver (W3C, "WebDriver")."""

import base64
import json
import subprocess
import time
import urllib.error
import urllib.request

# Seconds that something may take on a busy machine.
PATIENCE_S = 60
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
# Not through a proxy that this machine may have.
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))
KEYS = {"Tab": "\ue004", "Enter": "\ue007", "ArrowRight": "\ue014"}


class Driver:
    """chromedriver, which starts browsers."""

    def __enter__(self):
        self.process = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True
        )
        for line in self.process.stdout:
            if "started successfully on port " in line:
                self.url = f"http://127.0.0.1:{line.split('on port ')[1].strip().rstrip('.')}"
                return self
        raise RuntimeError("chromedriver did not start")

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def browser(self, script=True, width=1280, height=1200):
        """Starts a browser; without script it runs none of a page's."""
        # As root there is no sandbox: it sees pages of this test alone.
        arguments = ["--headless=new", "--no-sandbox", f"--window-size={width},{height}"]
        options = {"args": [*arguments, "--force-color-profile=srgb", "--hide-scrollbars"]}
        if not script:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        always = {"browserName": "chrome", "goog:chromeOptions": options}
        asked = {"capabilities": {"alwaysMatch": always}}
        return Browser(f"{self.url}/session", asked)


class Browser:
    """A browser with one window."""

    def __init__(self, url, asked):
        self.url = url
        self.url += "/" + self.call("POST", "", asked)["sessionId"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.call("DELETE", "")

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with LOCAL.open(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise LookupError(json.load(error)["value"]["message"]) from None

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def find(self, css):
        """Returns the first element of a selector; LookupError when there is none."""
        found = self.call("POST", "/element", {"using": "css selector", "value": css})
        return found[ELEMENT]

    def text(self, css):
        return self.call("GET", f"/element/{self.find(css)}/text")

    def attribute(self, css, name):
        return self.call("GET", f"/element/{self.find(css)}/attribute/{name}")

    def click(self, css):
        self.call("POST", f"/element/{self.find(css)}/click", {})

    def press(self, key):
        taps = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": taps}
        self.call("POST", "/actions", {"actions": [keyboard]})

    def address(self):
        return self.call("GET", "/url")

    def wait(self, what, is_so):
        """Waits until something is so."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                if is_so():
                    return
            except LookupError:
                pass
            if time.monotonic() > until:
                raise AssertionError(f"{what}: not seen at {self.address()}:\n{self.text('body')}")
            time.sleep(0.1)

    def save(self, path):
        path.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))
