"use strict";
document.documentElement.classList.add("js");

const LEVELS = [0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8];
const MOST = LEVELS[LEVELS.length - 1];
const CRISP = 2; // from this zoom on the pixels of the picture are seen as such
const hold = (value, least, most) => Math.min(Math.max(value, least), most);
const percent = (part) => Math.round(part * 100) + "\u00a0%";
const alike = (one, other) => Math.abs(one / other - 1) < 1e-3;
let scrolled = -Infinity;
addEventListener("scroll", () => { scrolled = performance.now(); }, { passive: true });

/* What is seen of the pictures: `x`, `y` of a picture is in the middle of the stage. */
class View {
  constructor(root) {
    this.stage = root.querySelector(".stage");
    const image = this.stage.querySelector("img");
    this.wide = Number(image.getAttribute("width"));
    this.high = Number(image.getAttribute("height"));
    this.x = this.wide / 2;
    this.y = this.high / 2;
    this.cut = 0.5;
    this.fitted = true;
    this.level = 1;
    this.changed = () => {};
    this.buttons = [...root.querySelectorAll(".views [data-zoom]")];
    this.said = root.querySelector(".level");
    for (const button of this.buttons) {
      button.addEventListener("click", () => this.choose(Number(button.dataset.zoom)));
    }
    root.querySelector(".closer").addEventListener("click", () => this.step(1));
    root.querySelector(".farther").addEventListener("click", () => this.step(-1));
    this.compare = root.querySelector(".compare");
    this.compare.addEventListener("input", () => this.split(Number(this.compare.value) / 100));
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    const given = root.dataset.view.split(" ").filter(Boolean).map(Number);
    const [x = this.x, y = this.y, zoom = 0] = given;
    this.spot = [x, y]; // where one comes to from all of the picture
    if (zoom > this.fit) Object.assign(this, { x, y, level: zoom, fitted: false });
    new ResizeObserver(() => this.place()).observe(this.stage);
    this.place();
  }

  /* Where the stage is in the window, and its size. */
  get room() {
    return this.stage.getBoundingClientRect();
  }

  /* Zoom at which all of the picture is seen. */
  get fit() {
    const { width, height } = this.room;
    return Math.min(width / this.wide, height / this.high);
  }

  get zoom() {
    return this.fitted ? this.fit : this.level;
  }

  get loose() {
    const { width, height } = this.room;
    return this.wide * this.zoom > width + 1 || this.high * this.zoom > height + 1;
  }

  place() {
    const { width, height } = this.room;
    const zoom = this.zoom;
    const inside = (center, length, seen) =>
      seen < length ? hold(center, seen / 2, length - seen / 2) : length / 2;
    this.x = inside(this.x, this.wide, width / zoom);
    this.y = inside(this.y, this.high, height / zoom);
    const left = width / 2 - this.x * zoom;
    const cut = this.cut * width;
    const places = { zoom, left, top: height / 2 - this.y * zoom, cut, clip: cut - left };
    for (const [name, value] of Object.entries(places)) {
      this.stage.style.setProperty("--" + name, value);
    }
    this.stage.classList.toggle("loose", this.loose);
    this.stage.classList.toggle("crisp", zoom >= CRISP);
    for (const button of this.buttons) {
      const own = Number(button.dataset.zoom);
      button.setAttribute("aria-pressed", String(own ? !this.fitted && alike(own, zoom) : this.fitted));
    }
    this.said.textContent = percent(zoom);
    this.changed();
  }

  /* Go to a zoom, or with 0 to all of the picture. */
  choose(zoom) {
    if (zoom) return this.zoomTo(zoom);
    if (!this.fitted) this.spot = [this.x, this.y];
    this.fitted = true;
    return this.place();
  }

  /* Zoom, while the place of the picture at px, py of the stage stays where it is. */
  zoomTo(zoom, px, py) {
    const { width, height } = this.room;
    if (px === undefined) {
      if (this.fitted) [this.x, this.y] = this.spot;
      [px, py] = [width / 2, height / 2];
    }
    const [x, y] = this.under(px, py);
    this.fitted = false;
    this.level = zoom;
    this.x = x - (px - width / 2) / zoom;
    this.y = y - (py - height / 2) / zoom;
    this.place();
  }

  /* Zoom by a factor, not beyond all of the picture; tell whether anything came of it. */
  zoomBy(factor, px, py) {
    const fit = this.fit;
    const least = Math.min(fit, this.zoom);
    const zoom = hold(this.zoom * factor, least, Math.max(MOST, fit));
    if (zoom === this.zoom) return false;
    if (zoom === fit) this.choose(0);
    else this.zoomTo(zoom, px, py);
    return true;
  }

  step(by) {
    const found = by > 0
      ? LEVELS.find((level) => level > this.zoom && !alike(level, this.zoom))
      : LEVELS.filter((level) => level < this.zoom && !alike(level, this.zoom)).pop();
    if (found) this.zoomBy(found / this.zoom);
  }

  /* A page that is being scrolled goes on to be, also over a picture. */
  wheel(event) {
    if (!event.ctrlKey && performance.now() - scrolled < 300) return;
    const lines = event.deltaMode ? 30 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.002;
    const [px, py] = this.local(event);
    if (this.zoomBy(Math.exp(-event.deltaY * lines * speed), px, py)) event.preventDefault();
  }

  pan(dx, dy) {
    this.x -= dx / this.zoom;
    this.y -= dy / this.zoom;
    this.place();
  }

  split(part) {
    this.cut = hold(part, 0, 1);
    this.compare.value = Math.round(this.cut * 100);
    this.compare.setAttribute("aria-valuetext", this.compare.value + " % blurry");
    this.place();
  }

  /* Place of an event on the stage. */
  local(event) {
    const box = this.room;
    return [event.clientX - box.x, event.clientY - box.y];
  }

  /* Place of the picture that is seen at px, py of the stage. */
  under(px, py) {
    const { width, height } = this.room;
    return [this.x + (px - width / 2) / this.zoom, this.y + (py - height / 2) / this.zoom];
  }
}

/* Before and after beside each other at 200 %, around the pointer. */
class Loupe {
  constructor(root, view, pictures) {
    this.view = view;
    this.pictures = pictures;
    this.box = root.querySelector(".loupe");
    this.canvas = this.box.querySelector("canvas");
    this.button = root.querySelector(".loupe-switch");
    this.button.addEventListener("click", () => this.toggle());
    this.on = false;
    this.at = null;
    addEventListener("scroll", () => this.draw(), { passive: true });
  }

  toggle() {
    this.on = !this.on;
    this.button.setAttribute("aria-pressed", String(this.on));
    this.view.stage.classList.toggle("under-loupe", this.on);
    const { width, height } = this.view.room;
    this.at ||= [width / 2, height / 2];
    this.finger = false;
    this.draw();
  }

  /* Go to a place on the stage, above a finger or beside a mouse. */
  move(at, finger = false) {
    this.at = at;
    this.finger = finger;
    this.draw();
  }

  leave() {
    this.at = null;
    this.draw();
  }

  draw() {
    this.box.hidden = !this.on || !this.at;
    if (this.box.hidden) return;
    const side = Math.min(200, (document.documentElement.clientWidth - 24) / 2);
    const dots = devicePixelRatio;
    this.canvas.style.setProperty("--side", side + "px");
    const edge = Math.round(side * dots);
    if (this.canvas.width !== 2 * edge) this.canvas.width = 2 * edge;
    this.canvas.height = edge; // this also clears it
    const paper = this.canvas.getContext("2d");
    const [x, y] = this.view.under(...this.at);
    const seen = side / 2; // at 200 %
    paper.imageSmoothingEnabled = false;
    this.pictures().forEach((image, k) => {
      paper.drawImage(image, x - seen / 2, y - seen / 2, seen, seen, k * edge, 0, edge, edge);
    });
    this.place(side);
  }

  place(side) {
    const box = this.view.room;
    const [px, py] = [box.x + this.at[0], box.y + this.at[1]];
    const gap = this.finger ? 56 : 24;
    const left = hold(px - side, 8, document.documentElement.clientWidth - 2 * side - 8);
    const above = py - gap - side;
    const room = this.finger ? 8 : box.y; // a hand hides what is below a finger
    const top = above >= room ? above : py + gap;
    this.box.style.setProperty("--x", left + "px");
    this.box.style.setProperty("--y", top + "px");
  }
}

/* What pointers on a stage do: move the line or the picture, pinch, move the loupe. */
class Hands {
  constructor(view, loupe) {
    this.view = view;
    this.loupe = loupe;
    this.down = new Map();
    this.doing = "";
    const stage = view.stage;
    stage.addEventListener("pointerdown", (event) => this.press(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      stage.addEventListener(kind, (event) => this.lift(event));
    }
    stage.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") loupe.leave();
    });
  }

  press(event) {
    if (event.button !== 0) return;
    const at = this.view.local(event);
    this.view.stage.setPointerCapture(event.pointerId);
    this.down.set(event.pointerId, at);
    const finger = event.pointerType !== "mouse";
    if (this.down.size > 1) this.doing = "pinch";
    else if (finger && this.loupe.on) this.doing = "look";
    else this.doing = this.onLine(at, finger) || !this.view.loose ? "line" : "pan";
    if (this.doing === "look") this.loupe.move(at, true);
    if (this.doing === "line" && !finger) this.cut(at); // a finger may be about to scroll the page
    this.view.stage.classList.toggle("held", this.doing === "pan");
  }

  onLine([px], finger) {
    return Math.abs(px - this.view.cut * this.view.room.width) < (finger ? 26 : 20);
  }

  cut([px]) {
    this.view.split(px / this.view.room.width);
  }

  move(event) {
    const at = this.view.local(event);
    const mouse = event.pointerType === "mouse";
    if (mouse) {
      this.view.stage.classList.toggle("on-line", this.onLine(at, false) || !this.view.loose);
      if (this.loupe.on) this.loupe.move(at);
    }
    const old = this.down.get(event.pointerId);
    if (!old) return;
    const before = this.spread();
    this.down.set(event.pointerId, at);
    if (this.doing === "line") this.cut(at);
    else if (this.doing === "pan") this.view.pan(at[0] - old[0], at[1] - old[1]);
    else if (this.doing === "look") this.loupe.move(at, true);
    else if (this.doing === "pinch") this.pinch(before, this.spread());
  }

  /* Middle of two fingers, and how far they are apart. */
  spread() {
    const [one, other = one] = [...this.down.values()];
    const apart = Math.hypot(one[0] - other[0], one[1] - other[1]);
    return { x: (one[0] + other[0]) / 2, y: (one[1] + other[1]) / 2, apart };
  }

  pinch(before, after) {
    this.view.pan(after.x - before.x, after.y - before.y);
    if (before.apart > 0) this.view.zoomBy(after.apart / before.apart, after.x, after.y);
  }

  lift(event) {
    if (event.type === "pointerup" && this.doing === "line") this.cut(this.view.local(event));
    if (this.doing === "look") this.loupe.leave();
    this.down.delete(event.pointerId);
    this.doing = this.down.size && this.doing === "pinch" ? "pan" : "";
    this.view.stage.classList.remove("held");
  }
}

class Scene {
  constructor(root) {
    this.root = root;
    this.before = [...root.querySelectorAll(".stage .before")];
    this.after = [...root.querySelectorAll(".stage .after")];
    this.scrub = root.querySelector(".scrub");
    this.said = root.querySelector("output");
    this.buttons = {};
    for (const name of ["play", "reverse", "boomerang"]) {
      this.buttons[name] = root.querySelector("." + name);
      this.buttons[name].addEventListener("click", () => this[name]());
    }
    this.seconds = Number(root.dataset.seconds) || 0;
    this.fps = root.querySelector(".fps");
    this.fps.addEventListener("change", () => this.timer && this.start());
    this.direction = 1;
    this.back = false;
    this.timer = 0;
    this.scrub.addEventListener("input", () => {
      this.stop();
      this.show(Number(this.scrub.value) - 1);
    });
    this.view = new View(root);
    this.loupe = new Loupe(root, this.view, () => [this.under(), this.after[this.now]]);
    new Hands(this.view, this.loupe);
    this.view.changed = () => this.loupe.draw();
    this.show(this.after.length >> 1);
  }

  show(number) {
    const count = this.after.length;
    this.now = (number + count) % count;
    this.after.forEach((image, k) => image.classList.toggle("shown", k === this.now));
    this.before.forEach((image) => image.classList.toggle("shown", image === this.under()));
    this.loupe.draw();
    this.scrub.value = this.now + 1;
    let text = `Frame ${this.now + 1} of ${count}`;
    if (this.seconds) {
      const time = ((this.now + 0.5) / count) * this.seconds;
      text += time < 1 ? ` · ${(time * 1000).toFixed(1)} ms` : ` · ${time.toFixed(2)} s`;
    }
    this.said.textContent = text;
    this.scrub.setAttribute("aria-valuetext", text);
  }

  /* Blurry picture that goes with the frame that is shown. */
  under() {
    return this.before[Math.min(this.now, this.before.length - 1)];
  }

  /* Move the picture, or the loupe, towards where an arrow points. */
  shift(dx, dy) {
    const { view, loupe } = this;
    if (!loupe.on) return view.pan(-40 * dx, -40 * dy);
    const { width, height } = view.room;
    const [px, py] = loupe.at || [width / 2, height / 2];
    return loupe.move([hold(px + 20 * dx, 0, width), hold(py + 20 * dy, 0, height)]);
  }

  step(by) {
    this.stop();
    this.show(this.now + by);
  }

  tick() {
    const last = this.after.length - 1;
    if (this.back && last > 0) {
      const next = this.now + this.direction;
      if (next < 0 || next > last) this.turn();
    }
    this.show(this.now + this.direction);
  }

  turn() {
    this.direction = -this.direction;
    this.press("reverse", this.direction < 0);
  }

  press(name, on) {
    this.buttons[name].setAttribute("aria-pressed", String(on));
  }

  start() {
    clearInterval(this.timer);
    this.timer = setInterval(() => this.tick(), 1000 / Number(this.fps.value));
    this.buttons.play.textContent = "❚❚ Pause";
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.buttons.play.textContent = "► Play";
  }

  play() {
    if (this.timer) this.stop();
    else this.start();
  }

  reverse() {
    this.turn();
  }

  boomerang() {
    this.back = !this.back;
    this.press("boomerang", this.back);
    if (this.back && !this.timer) this.start();
  }
}

const scenes = [...document.querySelectorAll(".scene")].map((root) => new Scene(root));
let current = scenes[0];
for (const scene of scenes) {
  for (const kind of ["focusin", "pointerdown", "pointerenter"]) {
    scene.root.addEventListener(kind, () => { current = scene; });
  }
}

document.addEventListener("keydown", (event) => {
  if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
  const inside = event.target.closest ? event.target.closest("input, select, button, summary, a") : null;
  const tag = inside ? inside.tagName : "";
  const key = event.key.toLowerCase();
  const arrows = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
  const zooms = { f: 0, 1: 1, 2: 2 };
  const steps = { "+": 1, "=": 1, "-": -1, "_": -1 };
  if (tag === "SELECT") return;
  if (key in arrows && event.shiftKey) current.shift(...arrows[key]);
  else if (key in arrows && arrows[key][0] && tag !== "INPUT") current.step(arrows[key][0]);
  else if (key === " " && (tag === "" || tag === "INPUT")) current.play();
  else if (key === "r") current.reverse();
  else if (key === "b") current.boomerang();
  else if (key === "l") current.loupe.toggle();
  else if (key in zooms) current.view.choose(zooms[key]);
  else if (key in steps) current.view.step(steps[key]);
  else return;
  event.preventDefault();
});
