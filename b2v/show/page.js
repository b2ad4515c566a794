"use strict";
document.documentElement.classList.add("js");

class Scene {
  constructor(root) {
    this.root = root;
    this.before = [...root.querySelectorAll(".stage .before")];
    this.after = [...root.querySelectorAll(".stage .after")];
    this.stage = root.querySelector(".stage");
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
    const compare = root.querySelector(".compare");
    compare.addEventListener("input", () => {
      this.stage.style.setProperty("--cut", compare.value + "%");
      compare.setAttribute("aria-valuetext", compare.value + " % blurry");
    });
    this.show(this.after.length >> 1);
  }

  show(number) {
    const count = this.after.length;
    this.now = (number + count) % count;
    this.after.forEach((image, k) => image.classList.toggle("shown", k === this.now));
    const under = Math.min(this.now, this.before.length - 1);
    this.before.forEach((image, k) => image.classList.toggle("shown", k === under));
    this.scrub.value = this.now + 1;
    let text = `Frame ${this.now + 1} of ${count}`;
    if (this.seconds) {
      const time = ((this.now + 0.5) / count) * this.seconds;
      text += time < 1 ? ` · ${(time * 1000).toFixed(1)} ms` : ` · ${time.toFixed(2)} s`;
    }
    this.said.textContent = text;
    this.scrub.setAttribute("aria-valuetext", text);
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
  for (const kind of ["focusin", "pointerdown"]) {
    scene.root.addEventListener(kind, () => { current = scene; });
  }
}

document.addEventListener("keydown", (event) => {
  if (!current || event.ctrlKey || event.metaKey || event.altKey) return;
  const inside = event.target.closest ? event.target.closest("input, select, button, summary, a") : null;
  const tag = inside ? inside.tagName : "";
  const key = event.key.toLowerCase();
  const arrows = { arrowleft: -1, arrowright: 1 };
  if (key in arrows && tag !== "INPUT" && tag !== "SELECT") current.step(arrows[key]);
  else if (key === " " && (tag === "" || tag === "INPUT")) current.play();
  else if (key === "r" && tag !== "SELECT") current.reverse();
  else if (key === "b" && tag !== "SELECT") current.boomerang();
  else return;
  event.preventDefault();
});
