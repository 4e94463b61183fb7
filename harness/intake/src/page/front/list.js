// A list that draws only the rows in sight, however many it has, and is driven by the keyboard.

class List {
  /**
   * @param options `label`; `height` of a row in pixels; `draw(number)` returns a row's element; `open(number)` is called for the chosen
   * row; `key(event, number)` may handle further keys and returns whether it did; `tall` is the most pixels that the list takes.
   */
  constructor({ label, height, count, draw, open, key, chosen = -1, tall = "70vh" }) {
    Object.assign(this, { height, count, draw, open, key, chosen });
    this.inner = el("div", { class: "rows", role: "presentation" });
    this.element = el("div", {
      class: "list", role: "listbox", tabindex: "0", "aria-label": label, style: { "max-height": tall },
      scroll: () => this.show(),
      keydown: (event) => this.press(event),
      click: (event) => {
        const row = event.target.closest("[data-row]");
        if (row && !event.target.closest("a,button")) { this.choose(Number(row.dataset.row)); this.open(this.chosen); }
      },
    }, this.inner);
    this.element.rows = this;
    this.id = `list${List.made += 1}`;
    this.drawn = new Map();
    this.observer = new ResizeObserver(() => requestAnimationFrame(() => this.show()));
    this.observer.observe(this.element);
  }

  /** Draws what is in sight anew; for when rows changed. */
  refresh(count = this.count) {
    this.count = count;
    this.chosen = Math.min(this.chosen, count - 1);
    this.drawn.forEach((row) => row.remove());
    this.drawn.clear();
    this.show();
  }

  show(all = false) {
    this.inner.style.height = `${this.count * this.height}px`;
    const { scrollTop, clientHeight } = this.element;
    const sight = clientHeight || 800;
    const from = all ? 0 : Math.max(0, Math.floor(scrollTop / this.height) - 8);
    const to = Math.min(this.count, all ? 2_000 : Math.ceil((scrollTop + sight) / this.height) + 8);
    for (const [number, row] of this.drawn) {
      if (number < from || number >= to) { row.remove(); this.drawn.delete(number); }
    }
    for (let number = from; number < to; number += 1) {
      if (this.drawn.has(number)) continue;
      const row = this.draw(number);
      row.dataset.row = number;
      row.id = `${this.id}-${number}`;
      row.setAttribute("role", "option");
      row.setAttribute("aria-setsize", this.count);
      row.setAttribute("aria-posinset", number + 1);
      row.style.top = `${number * this.height}px`;
      row.style.height = `${this.height}px`;
      this.mark(number, row);
      this.drawn.set(number, row);
      this.inner.append(row);
    }
  }

  mark(number, row) {
    row.setAttribute("aria-selected", number === this.chosen);
    row.classList.toggle("chosen", number === this.chosen);
  }

  choose(number) {
    if (this.count === 0) return;
    this.chosen = Math.max(0, Math.min(this.count - 1, number));
    const top = this.chosen * this.height, { scrollTop, clientHeight } = this.element;
    if (top < scrollTop) this.element.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.element.scrollTop = top + this.height - clientHeight;
    this.show();
    this.drawn.forEach((row, at) => this.mark(at, row));
    this.element.setAttribute("aria-activedescendant", `${this.id}-${this.chosen}`);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== this.element) return;
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
    const to = {
      ArrowDown: this.chosen + 1, ArrowUp: this.chosen - 1, j: this.chosen + 1, k: this.chosen - 1,
      PageDown: this.chosen + page, PageUp: this.chosen - page, Home: 0, End: this.count - 1,
    }[event.key];
    if (to !== undefined) this.choose(to);
    else if (event.key === "Enter" && this.chosen >= 0) this.open(this.chosen);
    else if (!this.key?.(event, this.chosen)) return;
    event.preventDefault();
    event.stopPropagation();
  }
}
List.made = 0;
