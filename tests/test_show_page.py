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
from b2v.html_page import Scene, View, pictures, render, write_page

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
    one = scene(seconds=1 / 15, facts=["105 fps"], heat=pictures([frames()[0]])[0][0])
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
    assert len(buttons) == 18
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


def test_the_page_holds_where_it_opens():
    sections = Outline(render("Page", [scene(view=View(30, 40, 2)), scene()])).all("section")
    assert [section["data-view"] for section in sections] == ["30 40 2", ""]


def test_the_page_speaks_no_decibels(page):
    outline = Outline(page)
    said = " ".join(part for tag, text in outline.text.items() if tag != "script" for part in text)
    assert "Drag the line" in said
    assert not re.search(r"\bdB\b|decibel|explain", said)


def test_large_frames_are_scaled_down():
    addresses, size = pictures(torch.zeros(2, 3, 100, 2600))
    assert (len(addresses), size) == (2, (1280, 49))


def test_frames_without_their_blurry_pictures_are_refused():
    with pytest.raises(ShapeError, match="2 blurry pictures and 3 frames"):
        Scene("x", ["a", "b"], ["c", "d", "e"], (1, 1))
    with pytest.raises(ShapeError, match="0 frames"):
        Scene("x", ["a"], [], (1, 1))


def test_a_page_is_not_overwritten_unasked(tmp_path):
    path = tmp_path / "page.html"
    write_page(path, "Page", [scene()], [], overwrite=False)
    before = path.read_bytes()
    with pytest.raises(UsageError, match="--overwrite"):
        write_page(path, "Other", [scene()], [], overwrite=False)
    assert path.read_bytes() == before
    write_page(path, "Other", [scene()], [], overwrite=True)
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


# Views: a picture of 600x400 that opens at 200 % around 150, 300


@pytest.fixture
def zoomed(browser):
    """The browser with a page that opens zoomed; the blurry picture is a ramp from black."""
    ramp = torch.linspace(0, 1, 600).expand(3, 400, 600)
    before, size = pictures([ramp])
    after, _ = pictures([ramp * 0.5])
    page = render("Zoomed", [Scene("photo.jpg", before, after, size, view=View(150, 300, 2))])
    (browser.folder / "zoomed.html").write_text(page, encoding="utf-8")
    browser.errors.clear()
    browser.resize(1000, 800)
    browser.open(browser.folder / "zoomed.html")
    return browser


def view_of(browser):
    """Zoom of the view, the pixel in its middle, and where the line is, from 0 to 1."""
    return browser.run("(v => [v.zoom, v.x, v.y, v.cut])(scenes[0].view)")


def box_of(browser, selector):
    return browser.run(
        f"(r => [r.x, r.y, r.width, r.height])"
        f"(document.querySelector('{selector}').getBoundingClientRect())"
    )


def drag(browser, way, start=(0.2, 0.2), kind="mouse"):
    """Press on a part of the stage, move by pixels, and let go."""
    x, y, width, height = box_of(browser, ".stage")
    x, y = x + start[0] * width, y + start[1] * height
    steps = [(x + part * way[0], y + part * way[1]) for part in (0, 0.5, 1)]
    if kind == "mouse":
        names = ("mousePressed", "mouseMoved", "mouseMoved")
        for name, (px, py) in zip(names, steps, strict=True):
            about = {"button": "left", "buttons": 1, "clickCount": 1}
            browser.send("Input.dispatchMouseEvent", type=name, x=px, y=py, **about)
        about = {"x": steps[-1][0], "y": steps[-1][1], "button": "left", "clickCount": 1}
        browser.send("Input.dispatchMouseEvent", type="mouseReleased", **about)
        return
    for name, (px, py) in zip(("touchStart", "touchMove", "touchMove"), steps, strict=True):
        browser.send("Input.dispatchTouchEvent", type=name, touchPoints=[{"x": px, "y": py}])
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])


def wheel(browser, by, at=(0.25, 0.5)):
    x, y, width, height = box_of(browser, ".stage")
    place = {"x": x + at[0] * width, "y": y + at[1] * height}
    browser.send("Input.dispatchMouseEvent", type="mouseWheel", deltaX=0, deltaY=by, **place)


@needs_chromium
def test_the_page_opens_zoomed_at_its_view(zoomed):
    width, height = box_of(zoomed, ".stage")[2:]
    x, y = max(150, width / 4), min(300, 400 - height / 4)  # the picture has no end on the stage
    assert view_of(zoomed) == pytest.approx([2, x, y, 0.5], abs=0.01)
    assert brightness(zoomed, 0.25, 0.9) == pytest.approx((x - width / 8) / 600, abs=0.02)
    assert brightness(zoomed, 0.75, 0.9) == pytest.approx((x + width / 8) / 1200, abs=0.02)
    pressed = "[...document.querySelectorAll('.views [aria-pressed=true]')].map(b => b.innerText)"
    assert zoomed.run(pressed) == ["200 %"]
    assert zoomed.run("document.querySelector('.level').textContent") == "200\u00a0%"
    assert zoomed.run("getComputedStyle(document.querySelector('.after')).imageRendering") == (
        "pixelated"
    )
    assert zoomed.errors == []


@needs_chromium
def test_keys_and_buttons_choose_the_zoom(zoomed):
    opened = view_of(zoomed)
    fit = box_of(zoomed, ".stage")[2] / 600
    zoomed.press("f")
    assert view_of(zoomed)[:3] == pytest.approx([fit, 300, 200], abs=0.01)
    zoomed.press("2")
    assert view_of(zoomed) == pytest.approx(opened)  # back to where one was
    zoomed.press("1")
    assert view_of(zoomed)[0] == 1
    zoomed.press("+")
    assert view_of(zoomed)[0] == pytest.approx(1.5)
    zoomed.press("-")
    zoomed.press("-")
    assert view_of(zoomed)[0] == pytest.approx(max(1, fit))  # there is no more to see
    for zoom, expected in ((2, 2), (1, 1), (0, fit)):
        press(zoomed, f'.views [data-zoom="{zoom}"]')
        assert view_of(zoomed)[0] == pytest.approx(expected)
    press(zoomed, ".closer")
    assert view_of(zoomed)[0] > fit


@needs_chromium
@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_dragging_moves_the_picture_and_the_line_stays_of_use(zoomed, kind):
    zoomed.resize(800, 800, touch=kind == "touch")
    zoomed.open(zoomed.folder / "zoomed.html")
    _, x, y, _ = view_of(zoomed)
    drag(zoomed, (-60, 40), kind=kind)
    assert view_of(zoomed) == pytest.approx([2, x + 30, y - 20, 0.5], abs=0.1)
    width = box_of(zoomed, ".stage")[2]
    drag(zoomed, (0.25 * width, 30), start=(0.5, 0.8), kind=kind)
    assert view_of(zoomed) == pytest.approx([2, x + 30, y - 20, 0.75], abs=0.1)
    drag(zoomed, (9000, 9000), kind=kind)  # not beyond its corner
    assert view_of(zoomed)[1] == pytest.approx(width / 4, abs=0.1)
    zoomed.press("f")
    drag(zoomed, (0.1 * width, 0), kind=kind)  # all of it is seen: any place moves the line
    assert view_of(zoomed)[3] == pytest.approx(0.3, abs=0.01)


@needs_chromium
def test_the_wheel_zooms_at_the_pointer_and_then_scrolls_the_page(zoomed):
    zoomed.press("f")
    width = box_of(zoomed, ".stage")[2]
    under = "scenes[0].view.under(%f, 100)[0]" % (width / 4)
    place = zoomed.run(under)
    wheel(zoomed, -300)
    assert view_of(zoomed)[0] > 1.5 * width / 600
    assert zoomed.run(under) == pytest.approx(place, abs=0.5)
    assert zoomed.run("scrollY") == 0
    wheel(zoomed, 3000)
    assert zoomed.run("scenes[0].view.fitted")
    assert zoomed.run("scrollY") == 0
    wheel(zoomed, 100)  # there is nothing more to see
    assert zoomed.run(
        "new Promise(done => { const wait = setInterval(() => {"
        "if (scrollY > 0) { clearInterval(wait); done(true); } }, 10); })"
    )


@needs_chromium
def test_two_fingers_zoom(zoomed):
    zoomed.resize(390, 844, touch=True)
    zoomed.open(zoomed.folder / "zoomed.html")
    x, y, width, height = box_of(zoomed, ".stage")
    middle = x + width / 2, y + height / 2
    for name, apart in (("touchStart", 40), ("touchMove", 50), ("touchMove", 60)):
        points = [{"x": middle[0] + side * apart, "y": middle[1], "id": side} for side in (0, 1)]
        points[0]["x"] -= apart
        zoomed.send("Input.dispatchTouchEvent", type=name, touchPoints=points)
    zoomed.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert view_of(zoomed)[0] == pytest.approx(3, abs=0.02)
    assert zoomed.run("visualViewport.scale") == 1


@needs_chromium
def test_the_loupe_shows_blurry_and_restored_around_the_pointer(zoomed):
    hidden = "document.querySelector('.loupe').hidden"
    assert zoomed.run(hidden)
    zoomed.press("f")
    zoomed.press("l")
    assert not zoomed.run(hidden)
    x, y, width, height = box_of(zoomed, ".stage")
    at = {"x": x + 0.75 * width, "y": y + 0.75 * height}
    zoomed.send("Input.dispatchMouseEvent", type="mouseMoved", **at)
    left, top, wide, _ = box_of(zoomed, ".loupe")
    assert left < at["x"] < left + wide
    assert y <= top < at["y"]
    ink = "document.querySelector('.loupe canvas').getContext('2d').getImageData(%d, 50, 1, 1)"
    red = [zoomed.run((ink % place) + ".data[0]") / 255 for place in (100, 300)]
    assert red == pytest.approx([0.75, 0.375], abs=0.02)
    zoomed.send("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert zoomed.run(hidden)
    press(zoomed, ".loupe-switch")
    zoomed.send("Input.dispatchMouseEvent", type="mouseMoved", **at)
    assert zoomed.run(hidden)


@needs_chromium
@pytest.mark.parametrize("colors", ["light", "dark"])
def test_text_stands_out_in_light_and_dark(shown, colors):
    shown.prefer(colors)
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
    assert (luminance(paper) < 0.2) == (colors == "dark")


def luminance(color):
    """Relative luminance of `rgb(r, g, b)` (WCAG 2)."""
    values = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    light = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), light, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@needs_chromium
@pytest.mark.parametrize("width", [360, 390])
def test_a_phone_needs_no_scrolling_sideways_and_has_buttons_for_thumbs(shown, width):
    shown.resize(width, 740, scale=2, touch=True)
    shown.open(shown.folder / "page.html")
    assert shown.run("document.documentElement.scrollWidth") == width
    rows = "new Set([...document.querySelectorAll('#scene1 .views button')].map(b => b.offsetTop))"
    assert shown.run(f"{rows}.size") == 1
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
