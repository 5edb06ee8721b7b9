"""The page at "/" in headless Chromium, against a real server with the demo model.

PAGE_PICTURES=FOLDER keeps pictures of its states; deploy/page.png is its normal.png.
"""

import json
import os
import pathlib
import re
import urllib.request

import harness
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

DEMO = harness.SOURCE / "deploy" / "demo_model"
PROMPT = "Once upon a time there was a little fox"
LAYERS, PICKS = 4, 3
PICTURES = os.environ.get("PAGE_PICTURES")


def ask(url, body=None, token=None):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers, data=None if body is None else json.dumps(body).encode())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    profile = tmp_path_factory.mktemp("profile")
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--no-proxy-server",
                 f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService("/usr/bin/chromedriver")
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def server():
    with harness.Server(DEMO, "--http_listen=127.0.0.1:0") as running:
        yield running


class Page:
    def __init__(self, driver, url):
        self.driver, self.url = driver, url
        self.size(1200, 1000)
        self.scheme("light")
        for log in ("browser", "performance"):
            driver.get_log(log)  # of what was before
        driver.get(url)

    def size(self, width, height):
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", dict(width=width, height=height, deviceScaleFactor=1, mobile=False)
        )

    def scheme(self, name):
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", dict(features=[dict(name="prefers-color-scheme", value=name)])
        )

    def picture(self, name):
        if PICTURES:
            self.driver.save_screenshot(str(pathlib.Path(PICTURES) / f"{name}.png"))

    def find(self, name):
        return self.driver.find_element(By.ID, name)

    def text(self, name):
        return self.find(name).text

    def shown(self, name):
        return self.find(name).is_displayed()

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def await_model(self):
        harness.eventually(lambda: "demo_model" in self.text("model"), "the model's name")

    def set(self, name, value):
        """As a person's hand would: with its event."""
        self.script(
            "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
            "e.dispatchEvent(new Event('input', {bubbles: true}));", name, str(value),
        )

    def start(self, prompt=PROMPT, tokens=24, temperature=0, seed=""):
        self.await_model()
        self.set("prompt", prompt)
        self.set("max-tokens", tokens)
        self.set("temperature", temperature)
        self.set("seed", seed)
        self.find("generate").click()

    def generate(self, **options):
        self.start(**options)
        harness.eventually(lambda: self.find("generate").is_enabled(), "the end of the answer")

    def tokens(self):
        """Of the answer: text, experts, the class's words and the colour behind each."""
        return self.script(
            "return [...document.querySelectorAll('#answer .token')].map(e => ({text: e.textContent, experts:"
            "Number(e.dataset.experts), words: e.className, colour: getComputedStyle(e).backgroundColor}))"
        )

    def number(self, name):
        return float(self.text(name).replace("\u2212", "-").replace("%", "").replace(",", ""))

    def requests(self):
        """Every request the browser made for this page, as DevTools tells it."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"]["request"] for event in events if event["method"] == "Network.requestWillBeSent"]
        assert sent
        return sent

    def complaints(self):
        """What the console says beside refused connections and statuses, which the page shows itself."""
        entries = self.driver.get_log("browser")
        return [e["message"] for e in entries if "Failed to load resource" not in e["message"] and "favicon" not in e["message"]]


@pytest.fixture
def page(browser, server):
    return Page(browser, server.http_url())


def colour_of(page, experts, of=LAYERS * PICKS):
    """What the legend's shades make of a number."""
    return page.script(
        "const e = document.createElement('span'); e.className = 'token'; e.style.setProperty('--share', arguments[0]);"
        "document.body.append(e); const c = getComputedStyle(e).backgroundColor; e.remove(); return c;", experts / of,
    )


def lightness(colour):
    red, green, blue = map(int, re.findall(r"\d+", colour)[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    def luminance(colour):
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4
                  for v in (int(n) / 255 for n in re.findall(r"\d+", colour)[:3])]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_tokens_are_shaded_by_their_experts(page, server):
    page.await_model()
    assert "Nothing yet" in page.text("answer")
    page.picture("empty")
    sampling = dict(temperature=0.7, seed=1)
    page.generate(tokens=96, **sampling)
    expected = ask(
        page.url + "/v1/completions",
        dict(prompt=PROMPT, max_tokens=96, return_experts=True, experts_per_layer=True, logprobs=0, **sampling),
    )
    choice = expected["choices"][0]
    tokens = page.tokens()
    assert [token["experts"] for token in tokens] == choice["experts"]
    assert len(set(choice["experts"])) > 3
    assert "".join(token["text"] for token in tokens if "special" not in token["words"]) == choice["text"]
    for token in tokens:
        assert token["colour"] == colour_of(page, token["experts"]), token
    shades = {token["experts"]: lightness(token["colour"]) for token in tokens}
    ordered = [shades[experts] for experts in sorted(shades)]
    assert ordered == sorted(ordered, reverse=True) and len(set(ordered)) == len(ordered)

    usage = expected["usage"]
    experts = usage["experts"]
    assert page.number("saved") == pytest.approx(100 * (1 - experts["executed_flops"] / experts["baseline_flops"]), abs=2)
    # The prompt is in the cache the second time: all slots together are fewer then.
    slots = [page.number(f"{kind}-slots") for kind in ("true", "null", "dropped")]
    assert sum(slots) >= experts["true_slots"] + experts["null_slots"] and sum(slots) % (LAYERS * PICKS) == 0
    assert page.number("mean-experts") == pytest.approx(sum(choice["experts"]) / len(choice["experts"]) / LAYERS, abs=0.006)
    assert "0 to 12" in page.text("legend-name")
    assert page.text("ramp").split() == ["0", "3", "6", "9", "12"]

    # Each layer of the token under the pointer, or under the arrow keys.
    elements = page.driver.find_elements(By.CSS_SELECTOR, "#answer .token")
    for index in (3, 10):
        ActionChains(page.driver).move_to_element(elements[index]).perform()
        layers = choice["experts_per_layer"][index]
        harness.eventually(lambda: f"Token {index + 1} of" in page.text("detail-text"), "the token's detail")
        assert f"{sum(layers)} of 12 experts" in page.text("detail-text")
        assert page.text("layers").split() == [str(number) for number in layers]
        heights = page.script("return [...document.querySelectorAll('.bar i')].map(e => e.offsetHeight / e.parentNode.clientHeight)")
        assert heights == pytest.approx([number / PICKS for number in layers], abs=0.05)
    page.find("answer").send_keys(Keys.ARROW_RIGHT)
    assert page.text("layers").split() == [str(number) for number in choice["experts_per_layer"][11]]
    page.find("answer").send_keys(Keys.END)
    assert f"Token {len(tokens)} of" in page.text("detail-text")
    page.script("document.activeElement.blur()")
    page.size(1200, 888)
    ActionChains(page.driver).move_to_element(elements[40]).perform()
    page.picture("normal")
    assert page.complaints() == []


def test_it_streams(page):
    page.start(tokens=400)
    seen = set()
    harness.eventually(lambda: seen.add(len(page.tokens())) or page.find("generate").is_enabled(), "the end of the answer")
    assert len(seen) > 3, "all of the answer came at once"
    assert page.find("answer").get_attribute("aria-busy") == "false"


def test_it_is_legible_in_both_schemes_and_narrow(page):
    page.generate(tokens=40)
    for scheme in ("light", "dark"):
        page.scheme(scheme)
        for experts in range(LAYERS * PICKS + 1):
            ink = page.script("return getComputedStyle(document.body).color")
            assert contrast(colour_of(page, experts), ink) > 4.5, (scheme, experts)
        for name in ("model", "prompt-note", "legend-name", "status"):
            ink = page.script("return getComputedStyle(document.getElementById(arguments[0])).color", name)
            for back in ("--card", "--page"):
                paper = page.script(
                    "const e = document.createElement('p'); e.style.color = `var(${arguments[0]})`; document.body.append(e);"
                    "const c = getComputedStyle(e).color; e.remove(); return c", back)
                assert contrast(ink, paper) > 4.5, (scheme, name)
    page.find("answer").send_keys(Keys.END)
    page.picture("dark")
    page.scheme("light")
    page.size(360, 740)
    assert page.script("return document.documentElement.scrollWidth") <= 360
    page.size(360, 2300)
    page.picture("narrow")
    # Everything that takes input has a name, and the keyboard reaches it.
    unnamed = page.script(
        "return [...document.querySelectorAll('input, textarea')].filter(e => e.labels.length === 0).map(e => e.id)")
    assert unnamed == []


def sent_bodies(page):
    return [json.loads(request["postData"]) for request in page.requests() if request["url"].endswith("/v1/completions")]


def test_the_dial_changes_the_request_and_the_saving(page):
    saved = {}
    for bias in (0, 2, -4):
        page.set("null-bias", bias)
        page.generate()
        saved[bias] = page.number("saved")
    assert saved[2] > saved[0] + 5 > saved[-4] + 10
    page.find("limit-on").click()
    page.generate()
    assert page.number("dropped-slots") > 0
    assert max(token["experts"] for token in page.tokens()) <= LAYERS
    assert [row.split()[:2] for row in page.text("runs").splitlines()] == [
        ["\u22124", "1"], ["\u22124", "off"], ["+2", "off"], ["0", "off"]]
    page.find("as-trained").click()
    page.generate()
    assert page.number("saved") == pytest.approx(saved[0], abs=2)
    assert [body.get("compute") for body in sent_bodies(page)] == [
        None, {"null_bias": 2}, {"null_bias": -4}, {"null_bias": -4, "max_experts_per_token": 1}, None]


def test_stop_ends_the_request_on_the_server(page, server):
    page.start(tokens=900)
    harness.eventually(lambda: len(page.tokens()) > 5, "tokens")
    assert ask(page.url + "/load")["running_requests"] == 1
    page.find("stop").click()
    harness.eventually(lambda: "Stopped after" in page.text("status"), "a word that it has stopped")
    harness.eventually(lambda: ask(page.url + "/load")["running_requests"] == 0, "an idle server")
    assert 5 < len(page.tokens()) < 900
    assert server.idle().get("requests_total", outcome="cancelled") >= 1
    assert not page.shown("error")
    harness.eventually(lambda: page.text("load-running") == "0", "the load on the page")
    assert re.fullmatch(r"0 / [\d,]+", page.text("load-blocks"))


def test_an_error_is_the_servers_own(page):
    page.generate(prompt="word " * 2000)
    assert page.shown("error")
    assert page.text("error").startswith("prompt: ")
    assert page.tokens() == [] and not page.shown("detail")
    page.picture("error")
    page.generate()
    assert not page.shown("error") and len(page.tokens()) > 5


def feed(page, pieces):
    """Has the page take these bytes as the answer to its next request, piece by piece."""
    page.script(
        "const real = window.fetch; window.fetch = (path, options) => {"
        "  if (path !== '/v1/completions') return real(path, options);"
        "  window.fetch = real;"
        "  return Promise.resolve(new Response(new ReadableStream({start(c) {"
        "    for (const piece of arguments_) c.enqueue(new Uint8Array(piece)); c.close(); }}))); };"
        "const arguments_ = arguments[0];", [list(piece) for piece in pieces],
    )
    page.generate()


def events_of(texts, ending="data: [DONE]\n\n"):
    stream = ""
    for text in texts:
        choice = dict(index=0, text=text, experts=[5], experts_per_layer=[[2, 1, 1, 1]], finish_reason=None,
                      logprobs=dict(tokens=[text]))
        stream += f"data: {json.dumps(dict(choices=[choice]), ensure_ascii=False)}\n\n"
    return (stream + ending).encode()


def test_pieces_may_be_cut_anywhere_and_text_stays_text(page):
    page.await_model()
    texts = ["<img src=x onerror='document.title=1'>", " caf\u00e9 \U0001f98a", "\n", "</script><b id=evil>", "\u202e", "&lt;"]
    stream = events_of(texts)
    for pieces in ([stream], [bytes([byte]) for byte in stream], [stream.replace(b"\n", b"\r\n")]):
        feed(page, pieces)
        assert [token["text"] for token in page.tokens()] == texts
        assert page.script("return document.querySelectorAll('#answer *:not(span)').length") == 0
        assert page.script("return document.getElementById('evil')") is None
        assert page.driver.title == "AdaMoE server"
    page.generate(prompt="<b id=evil>fox</b>")
    assert page.script("return document.getElementById('evil')") is None
    assert page.text("answer").startswith("<b id=evil>fox</b>")


def test_text_may_come_after_its_tokens(page):
    page.await_model()

    def event(text, tokens, finish=None):
        choice = dict(index=0, text=text, experts=[5] * len(tokens), experts_per_layer=[[2, 1, 1, 1]] * len(tokens),
                      finish_reason=finish, logprobs=dict(tokens=tokens))
        return f"data: {json.dumps(dict(choices=[choice]))}\n\n"

    stream = event("", ["\n"]) + event("\nHe", ["He", ""]) + event("", ["</s>"]) + event("\u00e9", ["\u00e9"], "stop")
    feed(page, [stream.encode(), b"data: [DONE]\n\n"])
    words = [token["words"].split()[1:] for token in page.tokens()]
    assert words == [["line"], [], ["bytes"], ["special"], []]
    feed(page, [(event("a</s>", ["a", "</s>"]) + event("", ["</s>"], "stop")).encode(), b"data: [DONE]\n\n"])
    assert [token["words"].split()[1:] for token in page.tokens()] == [[], [], ["special"]]


def test_an_answer_that_ends_early_says_so(page):
    page.await_model()
    feed(page, [events_of(["a", "b"], ending="")])
    assert "broke off" in page.text("error") and len(page.tokens()) == 2
    feed(page, [events_of(["a"], ending='data: {"error": {"message": "the server is shutting down"}}\n\n')])
    assert page.text("error") == "the server is shutting down" and len(page.tokens()) == 1


def test_nothing_leaves_the_origin(page):
    page.generate()
    assert {re.match(r"\w+://[^/]+", request["url"]).group() for request in page.requests()} == {page.url}
    entries = page.script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert entries and all(name.startswith(page.url + "/") for name in entries)
    # Where something got in nonetheless, the policy holds it.
    blocked = page.driver.execute_async_script(
        "const done = arguments[0], seen = [];"
        "document.addEventListener('securitypolicyviolation', e => {"
        "  seen.push(e.effectiveDirective); if (seen.length === 3) done(seen.sort()); });"
        "fetch('http://127.0.0.2:9/').catch(() => {});"
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.2:9/a.png'}));"
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title = 1'}));"
    )
    assert blocked == ["connect-src", "img-src", "script-src-elem"]
    assert page.driver.title == "AdaMoE server"


def test_a_token_is_asked_for_and_kept_in_memory_only(browser, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("a-secret-token\n")
    with harness.Server(DEMO, "--http_listen=127.0.0.1:0", f"--auth_tokens_file={tokens}") as server:
        page = Page(browser, server.http_url())
        harness.eventually(lambda: page.shown("token-form"), "a field for the token")
        assert not page.shown("disconnected")
        assert page.find("token").get_attribute("type") == "password"
        page.picture("token")
        page.find("token").send_keys("wrong", Keys.ENTER)
        harness.eventually(lambda: "does not take" in page.text("error"), "a refusal")
        page.find("token").send_keys("a-secret-token", Keys.ENTER)
        page.await_model()
        assert not page.shown("token-form") and not page.shown("error")
        page.generate()
        assert len(page.tokens()) > 5
        assert page.script("return [localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        assert "a-secret" not in page.script("return document.documentElement.outerHTML") + page.driver.current_url
        page.driver.refresh()
        harness.eventually(lambda: page.shown("token-form"), "the field again")


def test_a_killed_server_is_noticed_and_one_that_is_back(browser):
    with pytest.raises(AssertionError, match="ended with -9"):
        with harness.Server(DEMO, "--http_listen=127.0.0.1:0") as server:
            page = Page(browser, server.http_url())
            page.start(tokens=900)
            harness.eventually(lambda: len(page.tokens()) > 5, "tokens")
            server.process.kill()
            harness.eventually(lambda: page.shown("disconnected"), "the disconnected state")
            assert "Not connected" in page.text("disconnected")
            assert page.text("load-running") == "\u2013"
            assert "broke off" in page.text("error")
            page.picture("disconnected")
            server.wait()
    with harness.Server(DEMO, "--http_listen=" + page.url.removeprefix("http://")):
        harness.eventually(lambda: not page.shown("disconnected"), "the connection again")
        page.generate()
        assert len(page.tokens()) > 5 and not page.shown("error")
