/* The player of wiring evolution: draws what nas_core/pages/player.py wrote into the page, and lets it be played, scrubbed
   and asked. Without this script, and in print, the small multiples beside the data are shown instead. */

(() => {
  "use strict";

  const MISSING = -32768;
  const DURATION = 9000; // of a whole search, in milliseconds
  const still = matchMedia("(prefers-reduced-motion: reduce)");

  const make = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);
  const draw = (name, attributes = {}, ...children) =>
    build(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);

  function build(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function bytes(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  function shorts(text) {
    const view = new DataView(bytes(text).buffer);
    return Int16Array.from({ length: view.byteLength / 2 }, (_, index) => view.getInt16(2 * index, true));
  }

  /* Two decimals, or two significant digits where these say nothing; as in the book's tables. */
  function number(value) {
    if (value === null) return "–";
    const text = Math.abs(value) >= 0.095 || value === 0 ? value.toFixed(2) : value.toPrecision(2);
    return text.replaceAll("-", "−");
  }

  /* One method: its cell, and the frame that it shows. */
  class Panel {
    constructor(data, shared) {
      Object.assign(this, data, { shared, frame: 0 });
      this.choice = bytes(data.choice);
      this.probability = bytes(data.probability);
      this.cost = shorts(data.cost);
      this.edge_cost = shorts(data.edge_cost);
      this.heading = make("p", { class: "player-title" });
      this.stage = draw("svg", {
        viewBox: this.box.join(" "),
        role: "listbox",
        "aria-label": `Edges of the cell${this.title ? ", " + this.title : ""}`,
        class: "player-stage",
      });
      this.parts = this.edges.map((edge, index) => this.drawn(edge, index));
      const outputs = this.outputs.map(([line, head]) =>
        draw("g", { class: "player-output" }, draw("path", { d: line }), draw("path", { d: head, class: "player-head" })));
      this.stage.append(...outputs, ...this.parts.map((part) => part.group), ...this.nodes.map(node));
      this.element = make("div", { class: "player-panel" }, this.heading, this.stage);
    }

    drawn(edge, index) {
      const line = draw("path", { d: edge.line, class: "player-line" });
      const [x, y] = edge.chip;
      const sign = edge.kind === "input"
        ? draw("circle", { cx: x, cy: y, r: 15 })
        : draw("path", { d: `M${x - 20} ${y}L${x} ${y - 20} ${x + 20} ${y} ${x} ${y + 20}z` });
      const chip = draw("g", { class: "player-chip" }, sign, draw("text", { x, y: y + 5.5 }, `e${index}`));
      const group = draw(
        "g", { class: "player-edge", role: "option", tabindex: -1, "data-edge": index },
        draw("path", { d: edge.line, class: "player-halo" }), line,
        draw("path", { d: edge.head, class: "player-head" }), chip,
        draw("path", { d: edge.line, class: "player-reach" }),
      );
      return { group, line };
    }

    index(edge, operation) {
      return (this.frame * this.edges.length + edge) * this.shared.operations.length + operation;
    }

    /* P of an operation, from 0 to 1; null where the edge does not have it. */
    share(edge, operation) {
      return this.edges[edge].operations.includes(operation) ? this.probability[this.index(edge, operation)] / 255 : null;
    }

    charged(edge, operation) {
      const value = this.cost[this.index(edge, operation)];
      return value === MISSING ? null : value * this.unit;
    }

    total(edge) {
      const value = this.edge_cost[this.frame * this.edges.length + edge];
      return value === MISSING ? null : value * this.unit;
    }

    /* The number of the likeliest operation: 0 is none, the one after the last is a tie. */
    best(edge, frame = this.frame) {
      return this.choice[frame * this.edges.length + edge];
    }

    name(edge) {
      const [source, target] = this.edges[edge].ends;
      return `e${edge} (${source}→${target})`;
    }

    verdict(edge) {
      const best = this.best(edge);
      return best === 0 ? "dropped" : this.shared.operations[best] ?? "undecided";
    }

    kept(frame = this.frame) {
      return this.edges.filter((_, edge) => this.best(edge, frame) !== 0).length;
    }

    frameAt(epoch) {
      return Math.max(0, this.epochs.findLastIndex((own) => own <= epoch));
    }

    show(epoch) {
      this.frame = this.frameAt(epoch);
      this.heading.replaceChildren(
        make("strong", {}, this.title), `${this.title ? ": " : ""}${this.kept()} of ${this.edges.length} edges`);
      this.parts.forEach(({ group, line }, edge) => {
        const width = 1 - this.share(edge, 0);
        group.style.color = this.shared.colours[this.best(edge)];
        group.classList.toggle("dropped", this.best(edge) === 0);
        line.setAttribute("stroke-width", (1 + 7 * width).toFixed(2));
        group.setAttribute("aria-label", this.told(edge));
      });
    }

    told(edge) {
      const cost = this.total(edge);
      return `${this.name(edge)}, ${this.edges[edge].kind} edge: ${this.verdict(edge)}, ` +
        `P(none) ${Math.round(100 * this.share(edge, 0))} %` + (cost === null ? "" : `, cost ${number(cost)}`);
    }

    choose(edge) {
      this.chosen = Math.min(edge, this.edges.length - 1);
      this.parts.forEach(({ group }, index) => {
        group.setAttribute("aria-selected", index === this.chosen);
        group.setAttribute("tabindex", index === this.chosen ? 0 : -1);
      });
    }

    words() {
      const all = this.edges.map((_, edge) => edge);
      const kept = all.filter((edge) => this.best(edge) !== 0).map((edge) => `${this.name(edge)} ${this.verdict(edge)}`);
      const gone = all.filter((edge) => this.best(edge) === 0).map((edge) => `e${edge}`);
      return `${this.title ? this.title + ": " : ""}${kept.length} of ${all.length} edges` +
        (kept.length ? `: ${kept.join(", ")}` : "") + (gone.length ? `; dropped: ${gone.join(", ")}` : "") + ".";
    }
  }

  function node([x, y, colour], index) {
    return draw("g", { class: "player-node", "aria-hidden": "true" },
      draw("circle", { cx: x, cy: y, r: 20, fill: colour }), draw("text", { x, y: y + 8 }, String(index)));
  }

  /* The whole thing: panels, the course of all of them, controls, and what is known of one edge. */
  class Player {
    constructor(root) {
      const data = JSON.parse(root.querySelector("script").textContent);
      this.panels = data.panels.map((panel) => new Panel(panel, data));
      this.data = data;
      this.epochs = [...new Set(data.panels.flatMap((panel) => panel.epochs))].sort((a, b) => a - b);
      this.step = 0;
      this.timer = null;
      this.touched = false;
      this.element = make("div", { class: "player-live", role: "group", "aria-label": "Player of the wiring over epochs" },
        make("div", { class: "player-panels" }, ...this.panels.map((panel) => panel.element)),
        this.course(), this.controls(), this.table(),
        this.said = make("p", { class: "player-said", "aria-live": "polite" }));
      root.insertBefore(this.element, root.querySelector(".player-stills"));
      root.classList.add("is-live");
      this.listen();
      this.choose(Math.max(0, this.panels[0].edges.findLastIndex((edge) => edge.kind === "intermediate")));
      this.go(0);
      this.watch();
    }

    /* Edges kept over the whole search, one line a method, with a mark at the epoch that is shown. */
    course() {
      const last = Math.max(1, this.epochs.at(-1));
      const height = Math.max(...this.panels.map((panel) => panel.edges.length));
      const lines = this.panels.map((panel, index) => {
        const points = panel.epochs.map((epoch, frame) => [1000 * epoch / last, 40 * (1 - panel.kept(frame) / height)]);
        const d = points.map(([x, y], at) => (at ? `H${x.toFixed(1)}V${y.toFixed(1)}` : `M${x} ${y.toFixed(1)}`)).join("");
        return draw("path", { d, class: `player-course-${index % 3}` });
      });
      this.mark = draw("path", { class: "player-mark" });
      const picture = draw("svg", { viewBox: "0 -2 1000 44", preserveAspectRatio: "none" }, ...lines, this.mark);
      const keys = this.panels.length < 2 ? [] : this.panels.map((panel, index) => make("span", {},
        draw("svg", { viewBox: "0 0 28 8", width: 28, height: 8 },
          draw("path", { d: "M0 4H28", class: `player-course-${index % 3}` })), ` ${panel.title}`));
      return make("div", { class: "player-course", "aria-hidden": "true" },
        make("p", {}, `edges that are kept (0 to ${height})`, ...keys), picture);
    }

    controls() {
      const button = (text, label) => make("button", { type: "button", ...(label && { "aria-label": label }) }, text);
      this.toggle = button("Play");
      this.back = button("‹", "One step back");
      this.next = button("›", "One step forward");
      const range = { type: "range", min: 0, max: this.epochs.length - 1, step: 1, value: 0 };
      this.slider = make("input", { ...range, "aria-label": "Epoch" });
      this.clock = make("span", { class: "player-clock", "aria-hidden": "true" });
      return make("div", { class: "player-controls" }, this.toggle, this.back, this.next, this.slider, this.clock);
    }

    /* P and cost of every operation on the chosen edge. */
    table() {
      const present = this.data.operations.map((_, operation) => operation).filter((operation) =>
        this.panels.some((panel) => panel.edges.some((edge) => edge.operations.includes(operation))));
      const cells = () => this.panels.flatMap(() => [make("td"), make("td")]);
      this.rows = present.map((operation) => ({ operation, cells: cells() }));
      this.sums = cells();
      this.names = this.panels.map(() => make("th", { colspan: 2, scope: "colgroup" }));
      const swatch = (operation) =>
        make("span", { class: "player-swatch", style: `background:${this.data.colours[operation]}` });
      const rows = this.rows.map(({ operation, cells: own }) =>
        make("tr", {}, make("th", { scope: "row" }, swatch(operation), this.data.operations[operation]), ...own));
      const heads = this.panels.flatMap(() => [make("th", { scope: "col" }, "P"), make("th", { scope: "col" }, "cost")]);
      const sum = make("tr", { class: "player-sum" }, make("th", { scope: "row" }, "the edge, Σ P · cost"), ...this.sums);
      return make("div", { class: "player-edge-table" }, make("table", {},
        make("thead", {}, make("tr", {}, make("td"), ...this.names), make("tr", {}, make("td"), ...heads)),
        make("tbody", {}, ...rows, sum)));
    }

    fill() {
      this.panels.forEach((panel, column) => {
        const edge = panel.chosen;
        const sign = this.data.signs[panel.edges[edge].kind];
        this.names[column].textContent = `${panel.title ? panel.title + " " : ""}${sign} ${panel.name(edge)}`;
        for (const { operation, cells } of this.rows) {
          const share = panel.share(edge, operation);
          const [likely, cost] = cells.slice(2 * column, 2 * column + 2);
          likely.textContent = share === null ? "–" : `${Math.round(100 * share)} %`;
          likely.style.setProperty("--share", `${100 * (share ?? 0)}%`);
          likely.style.setProperty("--tone", this.data.colours[operation]);
          cost.textContent = share === null ? "–" : number(panel.charged(edge, operation));
        }
        this.sums[2 * column + 1].textContent = number(panel.total(edge));
      });
    }

    listen() {
      this.toggle.addEventListener("click", () => this.touch(() => (this.timer ? this.pause() : this.play())));
      this.back.addEventListener("click", () => this.touch(() => this.leap(this.step - 1)));
      this.next.addEventListener("click", () => this.touch(() => this.leap(this.step + 1)));
      this.slider.addEventListener("input", () => this.touch(() => this.leap(this.slider.valueAsNumber)));
      for (const panel of this.panels) {
        for (const event of ["pointerover", "pointerdown", "focusin"]) {
          panel.stage.addEventListener(event, ({ target }) => {
            const group = target.closest("[data-edge]");
            if (group) this.choose(Number(group.dataset.edge));
          });
        }
        panel.stage.addEventListener("keydown", (event) => this.key(event, panel));
      }
    }

    /* On an edge: up and down choose another one, left and right move through the search, space plays. */
    key(event, panel) {
      const edges = panel.edges.length;
      const acts = {
        ArrowDown: () => this.focus(panel, (panel.chosen + 1) % edges),
        ArrowUp: () => this.focus(panel, (panel.chosen + edges - 1) % edges),
        ArrowRight: () => this.touch(() => this.leap(this.step + 1)),
        ArrowLeft: () => this.touch(() => this.leap(this.step - 1)),
        Home: () => this.touch(() => this.leap(0)),
        End: () => this.touch(() => this.leap(this.epochs.length - 1)),
        " ": () => this.touch(() => (this.timer ? this.pause() : this.play())),
      };
      if (!(event.key in acts) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      event.stopPropagation(); // the theme turns pages by arrow keys
      acts[event.key]();
    }

    focus(panel, edge) {
      this.choose(edge);
      panel.parts[edge].group.focus();
    }

    choose(edge) {
      for (const panel of this.panels) panel.choose(edge);
      this.fill();
    }

    touch(act) {
      this.touched = true;
      act();
    }

    /* To a step by hand: the movement stops there. */
    leap(step) {
      this.pause();
      this.go(step);
      this.say();
    }

    go(step) {
      this.step = Math.min(Math.max(step, 0), this.epochs.length - 1);
      const epoch = this.epochs[this.step];
      const last = this.epochs.at(-1);
      for (const panel of this.panels) panel.show(epoch);
      this.fill();
      this.slider.value = this.step;
      this.slider.setAttribute("aria-valuetext", `epoch ${epoch} of ${last}`);
      this.clock.textContent = `epoch ${epoch} of ${last}`;
      const x = 1000 * epoch / Math.max(1, last);
      this.mark.setAttribute("d", `M${x.toFixed(1)} -2V42`);
    }

    play() {
      if (this.step === this.epochs.length - 1) this.go(0);
      const pace = Math.min(400, Math.max(120, DURATION / this.epochs.length));
      this.timer = setInterval(() => this.advance(), pace);
      this.toggle.textContent = "Pause";
    }

    advance() {
      this.go(this.step + 1);
      if (this.step === this.epochs.length - 1) {
        this.pause();
        this.say();
        this.touched = true; // once by itself is enough
      }
    }

    pause() {
      clearInterval(this.timer);
      this.timer = null;
      this.toggle.textContent = "Play";
    }

    /* The wiring in words for a screen reader: only at rest, and once a reader has stopped scrubbing. */
    say() {
      clearTimeout(this.speaking);
      this.speaking = setTimeout(() => {
        this.said.textContent = `Epoch ${this.epochs[this.step]}. ${this.panels.map((panel) => panel.words()).join(" ")}`;
      }, 400);
    }

    /* It plays by itself while it is seen, until it is touched; never for who asked for less motion. */
    watch() {
      const seen = (entries) => {
        if (this.touched || still.matches) return;
        const visible = entries.at(-1).isIntersecting;
        if (visible && !this.timer) this.play();
        if (!visible && this.timer) this.pause();
      };
      new IntersectionObserver(seen, { threshold: 0.15 }).observe(this.panels[0].stage);
    }
  }

  function start() {
    for (const root of document.querySelectorAll(".wiring-player:not(.is-live)")) new Player(root);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
