"""The page: its structure by a parser, and what it does in a real browser."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
import torch
from browser import Browser, needs_chromium
from conftest import make_picture

from b2v.errors import ShapeError, UsageError
from b2v.show import Scene, write_page
from b2v.show.page import pictures, render

COUNT, WIDTH, HEIGHT = 7, 120, 80
NASTY = "<b>\"&'</title><script>alert(1)</script>.jpg"


def frames():
    """Seven flat frames, each brighter than the one before."""
    return torch.linspace(0.2, 0.8, COUNT).view(-1, 1, 1, 1).expand(-1, 3, HEIGHT, WIDTH)


def scene(title="photo.jpg", **more):
    after, size = pictures(frames())
    before, _ = pictures([make_picture(HEIGHT, WIDTH)])
    return Scene(title, before, after, size, **more)


class Outline(HTMLParser):
    """Tags with their attributes, and the text of scripts and styles."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.text, self.wrong = [], [], {}, []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def page():
    one = scene(
        seconds=1 / 15, facts=["105 fps"], warning="odd", heat=pictures([frames()[0]])[0][0]
    )
    return render("Inside <one> exposure", [one, scene(NASTY)], ["made by b2v", NASTY])


def test_every_tag_is_closed_and_every_name_escaped(page):
    outline = Outline(page)
    assert (outline.wrong, outline.open) == ([], [])
    assert len(outline.all("script")) == len(outline.all("style")) == 1
    assert NASTY in outline.text["h2"]
    assert outline.text["title"] == ["Inside <one> exposure"]


def test_the_page_needs_nothing_but_itself(page):
    outline = Outline(page)
    addresses = [a[key] for _, a in outline.tags for key in ("src", "href", "action") if key in a]
    assert addresses
    assert all(address.startswith("data:") for address in addresses)
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|import\(", page)


def test_the_policy_allows_this_style_and_script_and_nothing_else(page):
    outline = Outline(page)
    policy = next(a["content"] for a in outline.all("meta") if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    for tag in ("style", "script"):
        text = "".join(outline.text[tag])
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert not [a for _, a in outline.tags if "style" in a or any(k.startswith("on") for k in a)]


def test_everything_has_a_name_for_those_who_do_not_see_it(page):
    outline = Outline(page)
    assert all(a.get("alt") for a in outline.all("img"))
    assert all(a.get("aria-label") for a in outline.all("input"))
    assert outline.all("html")[0]["lang"] == "en"
    ids = [a["id"] for _, a in outline.tags if "id" in a]
    assert len(ids) == len(set(ids))
    labels = [a["aria-labelledby"] for a in outline.all("section")]
    assert set(labels) <= set(ids)
    buttons = outline.all("button")
    assert len(buttons) == 6
    assert {a["type"] for a in buttons} == {"button"}


def test_each_scene_has_its_frames_and_size(page):
    outline = Outline(page)
    kinds = [a["class"] for a in outline.all("img") if "class" in a]
    assert kinds == (["before"] + ["after"] * COUNT) * 2
    assert all(
        (a["width"], a["height"]) == ("120", "80") for a in outline.all("img") if "class" in a
    )
    assert "#scene2{--wide:120;--high:80}" in page
    assert 'data-seconds="0.0666' in page


def test_large_frames_are_scaled_down():
    addresses, size = pictures(torch.zeros(2, 3, 100, 2600))
    assert (len(addresses), size) == (2, (1280, 49))


def test_frames_without_their_blurry_pictures_are_refused():
    with pytest.raises(ShapeError, match="2 blurry pictures and 3 frames"):
        Scene("x", ["a", "b"], ["c", "d", "e"], (1, 1))
    with pytest.raises(ShapeError, match="0 frames"):
        Scene("x", ["a"], [], (1, 1))


def test_a_page_is_not_overwritten_unasked(tmp_path):
    path = write_page(tmp_path / "page.html", "Page", [scene()])
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        write_page(path, "Other", [scene()])
    assert path.read_bytes() == before
    write_page(path, "Other", [scene()], overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["page.html"]


# In a browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory, page):
    folder = tmp_path_factory.mktemp("browser")
    (folder / "page.html").write_text(page, encoding="utf-8")
    with Browser(folder / "profile") as opened:
        opened.folder = folder
        yield opened


@pytest.fixture
def shown(browser):
    """The browser with the page freshly loaded."""
    browser.requests.clear()
    browser.errors.clear()
    browser.resize(1100, 900)
    browser.open(browser.folder / "page.html")
    return browser


def frame_of(browser, number=1):
    """Which frame of a scene is shown, from 1; exactly one must be."""
    selector = f"#scene{number} .after"
    script = (
        f"[...document.querySelectorAll('{selector}')].map(i => getComputedStyle(i).visibility)"
    )
    seen = browser.run(script)
    assert seen.count("visible") == 1
    return seen.index("visible") + 1


def brightness(browser, x, y, number=1):
    """Red of the picture at a part of the width and height of a stage, as it is on the screen."""
    import io

    from PIL import Image

    box = browser.run(
        f"(() => {{ const r = document.querySelector('#scene{number} .stage')"
        ".getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; })()"
    )
    with Image.open(io.BytesIO(browser.screenshot())) as image:
        place = round(box[0] + x * box[2]), round(box[1] + y * box[3])
        return image.convert("RGB").getpixel(place)[0] / 255


def press(browser, selector):
    browser.run(f"document.querySelector('{selector}').click()")


@needs_chromium
def test_the_page_loads_without_network_or_complaint(shown):
    assert [a for a in shown.requests if not a.startswith(("data:", "file:"))] == []
    assert sum(a.startswith("file:") for a in shown.requests) == 1
    assert shown.errors == []
    assert shown.run("document.title") == "Inside <one> exposure"
    assert frame_of(shown) == frame_of(shown, 2) == 4


@needs_chromium
def test_the_policy_stops_what_does_not_belong_to_the_page(shown):
    shown.run("document.body.appendChild(document.createElement('script')).text = 'window.bad = 1'")
    shown.run(
        "new Promise(done => { const i = new Image(); i.onerror = done; i.onload = done;"
        "i.src = 'http://127.0.0.1:9/x.png'; }).then(() => 1)"
    )
    assert shown.run("window.bad") is None
    assert len(shown.errors) >= 2
    assert all("Content Security Policy" in error for error in shown.errors)


@needs_chromium
def test_arrows_step_and_go_round(shown):
    for _ in range(3):
        shown.press("ArrowRight")
    assert frame_of(shown) == 7
    assert "Frame 7 of 7 · 61.9 ms" in shown.run("document.querySelector('output').textContent")
    shown.press("ArrowRight")
    assert frame_of(shown) == 1
    shown.press("ArrowLeft")
    assert (frame_of(shown), frame_of(shown, 2)) == (7, 4)


@needs_chromium
def test_the_scrubber_shows_the_frame_it_is_put_to(shown):
    for number in (1, 7, 3):
        shown.run(
            f"(() => {{ const s = document.querySelector('.scrub'); s.value = {number};"
            "s.dispatchEvent(new Event('input')); })()"
        )
        assert frame_of(shown) == number
        assert brightness(shown, 0.9, 0.9) == pytest.approx(0.2 + 0.1 * (number - 1), abs=0.03)


@needs_chromium
def test_the_slider_moves_the_line_between_blurry_and_restored(shown):
    assert brightness(shown, 0.75, 0.9) == pytest.approx(0.5, abs=0.03)  # flat: the fourth frame
    shown.run("document.querySelector('.compare').focus()")
    for _ in range(45):
        shown.press("ArrowRight")
    assert shown.run("document.querySelector('.compare').value") == "95"
    assert frame_of(shown) == 4
    shown.run("document.querySelector('.compare').value = 0")
    shown.run("document.querySelector('.compare').dispatchEvent(new Event('input'))")
    assert brightness(shown, 0.25, 0.9) == pytest.approx(0.5, abs=0.03)
    label = "document.querySelector('.compare').getAttribute('aria-valuetext')"
    assert shown.run(label) == "0 % blurry"


def sequence(browser, length):
    """Frames that are shown by so many ticks of the clock."""
    browser.run("scenes[0].stop()")
    found = []
    for _ in range(length):
        browser.run("scenes[0].tick()")
        found.append(frame_of(browser))
    return found


@needs_chromium
def test_keys_play_reverse_and_boomerang(shown):
    assert sequence(shown, 5) == [5, 6, 7, 1, 2]
    shown.press("r")
    assert sequence(shown, 3) == [1, 7, 6]
    shown.press("b")
    assert sequence(shown, 8) == [5, 4, 3, 2, 1, 2, 3, 4]
    pressed = "document.querySelector('.boomerang').getAttribute('aria-pressed')"
    assert shown.run(pressed) == "true"
    shown.press("b")
    assert shown.run(pressed) == "false"


@needs_chromium
def test_space_plays_and_pauses(shown):
    label = "document.querySelector('.play').textContent"
    assert shown.run(label) == "► Play"
    shown.press(" ")
    assert shown.run(label) == "❚❚ Pause"
    moved = "new Promise(done => { const n = scenes[0].now; const wait = setInterval(() => {"
    moved += "if (scenes[0].now !== n) { clearInterval(wait); done(true); } }, 10); })"
    assert shown.run(moved)
    shown.press(" ")
    assert shown.run(label) == "► Play"
    assert shown.run("scenes[0].timer") == 0


@needs_chromium
def test_keys_go_to_the_scene_in_use(shown):
    shown.run("document.querySelector('#scene2 .reverse').focus()")
    shown.press("ArrowRight")
    assert (frame_of(shown), frame_of(shown, 2)) == (4, 5)


@needs_chromium
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(shown, colours):
    shown.prefer(colours)
    script = "(e => { const s = getComputedStyle(e); return [s.color, s.backgroundColor]; })"
    seen = {
        "body": ("body", "body"),
        "soft": (".lead", "body"),
        "fact": (".facts li", ".scene"),
        "button": (".play", ".play"),
    }
    for text, back in seen.values():
        ink = shown.run(f"{script}(document.querySelector('{text}'))[0]")
        paper = shown.run(f"{script}(document.querySelector('{back}'))[1]")
        assert contrast(ink, paper) >= 4.5, (text, ink, paper)
    paper = shown.run(f"{script}(document.body)[1]")
    assert (luminance(paper) < 0.2) == (colours == "dark")


def luminance(colour):
    """Relative luminance of `rgb(r, g, b)` (WCAG 2)."""
    values = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    light = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), light, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@needs_chromium
def test_a_phone_needs_no_scrolling_sideways_and_has_buttons_for_thumbs(shown):
    shown.resize(360, 740, scale=2, touch=True)
    shown.open(shown.folder / "page.html")
    assert shown.run("document.documentElement.scrollWidth") == 360
    heights = "[...document.querySelectorAll('button, select, .scrub')].map(b => b.offsetHeight)"
    assert min(shown.run(heights)) >= 44
    assert shown.run("getComputedStyle(document.body).fontSize") == "16px"


@needs_chromium
def test_without_scripts_all_frames_are_there_to_see(shown):
    shown.send("Emulation.setScriptExecutionDisabled", value=True)
    shown.send("Page.reload")
    try:
        seen = "[...document.querySelectorAll('.after')].filter(i => i.checkVisibility()).length"
        deadline = 200
        while shown.run(f"document.readyState == 'complete' ? {seen} : 0") != 2 * COUNT:
            deadline -= 1
            assert deadline, "the frames are hidden"
        assert shown.run("getComputedStyle(document.querySelector('.controls')).display") == "none"
    finally:
        shown.send("Emulation.setScriptExecutionDisabled", value=False)
