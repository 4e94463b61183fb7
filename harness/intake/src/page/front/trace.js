// A trace: its diagnosis, its waterfall, and the span that is looked at.

function failureView(failure, isSymptom) {
  const where = [failure.service, failure.stage && `stage ${failure.stage}`].filter(Boolean).join(", ");
  return el("li", { class: "failure" }, isSymptom ? "so " : null,
    el("b", {}, failure.rule), " ", longText(failure.detail, 1_200), where ? el("small", {}, ` (${where})`) : null,
    failure.symptoms?.length ? el("ul", {}, failure.symptoms.map((one) => failureView(one, true))) : null);
}

/** The first failure as the first line, and all others below it. */
function diagnosis(failures, reasons = []) {
  if (failures.length === 0 && reasons.length === 0) return null;
  const [first, ...others] = failures;
  return el("section", { class: "diagnosis", "aria-label": "diagnosis" },
    first ? el("ul", { class: "first" }, failureView(first)) : null,
    others.length ? el("details", { open: others.length < 4 }, el("summary", {}, count(others.length, "further failure")), el("ul", {}, others.map((one) => failureView(one)))) : null,
    reasons.length ? el("ul", { class: "reasons" }, reasons.map((reason) => el("li", {}, "undecided: ", longText(reason, 600)))) : null);
}

/** Expected and captured tree side by side; what is broken in them is marked. */
function treesView(trees, failures) {
  const hops = unfolded(failures).map((failure) => failure.hop?.callee).filter(Boolean);
  const end = trees.captured.findIndex((line) => line.startsWith("apart, "));
  const captured = trees.captured.slice(0, end < 0 ? undefined : end).join("\n");
  const isMissing = (line) => hops.some((callee) => line.trim().startsWith(`${callee} `) && !captured.includes(`${callee} `));
  const isOdd = (line) => /^\s*\?|^apart, |\(in a cycle\)$|^\(nothing\)$/.test(line);
  const most = 300;
  const column = (title, lines, isBad) => el("div", { class: "tree" }, el("h4", {}, title), el("pre", { tabindex: "0" },
    lines.slice(0, most).map((line) => el("span", { class: isBad(line) ? "bad" : "" }, isBad(line) ? "▸ " : "  ", own(line, 240), "\n")),
    lines.length > most ? `… ${count(lines.length - most, "more line")}, drawn below` : null));
  return el("section", {}, el("h3", {}, "Expected and captured"),
    el("div", { class: "trees" }, column("expected", trees.expected, isMissing), column("captured", trees.captured, isOdd)));
}

class Waterfall {
  constructor(detail, scenario, chosen, opened) {
    this.detail = detail;
    this.all = rowsOf(detail);
    this.folded = new Set();
    this.opened = opened;
    this.scenario = scenario;
    const times = this.all.filter((row) => row.span).map((row) => row.span);
    this.from = Math.min(...times.map((span) => span.at), times.length ? Infinity : 0);
    this.to = Math.max(...times.map((span) => span.at + span.duration), this.from + 1);
    this.rows = this.all;
    const number = this.rows.findIndex((row) => row.span && row.id === chosen);
    this.list = new List({
      label: "spans", height: 30, count: this.rows.length, chosen: number,
      draw: (at) => this.draw(this.rows[at]), open: (at) => this.open(this.rows[at]), key: (event, at) => this.press(event, at),
    });
    this.element = el("div", { class: "waterfall" }, this.axis(), this.list.element);
    if (number > 0) requestAnimationFrame(() => this.list.choose(number));
  }

  axis() {
    const ticks = [0, 0.25, 0.5, 0.75, 1];
    return el("div", { class: "wrow axis", "aria-hidden": "true" }, el("div", { class: "wlabel" }, "span"), el("div", { class: "wbar" },
      ticks.map((at) => el("i", { class: "tick", style: { left: `${at * 100}%` } }, time(Math.round((this.to - this.from) * at))))), el("div", { class: "wtime" }, "duration"));
  }

  draw(row) {
    const indent = { "padding-left": `${Math.min(row.depth, 24) * (innerWidth < 720 ? 7 : 14)}px` };
    const fold = row.below > 0 && row.id
      ? el("button", { type: "button", class: "fold", tabindex: "-1", "aria-label": this.folded.has(row.id) ? "unfold" : "fold", click: () => this.fold(row) }, this.folded.has(row.id) ? "▸" : "▾")
      : el("i", { class: "fold" });
    const label = (...content) => el("div", { class: "wlabel", style: indent }, fold, ...content);
    if (row.kind === "span") return this.drawSpan(row, label);
    const texts = {
      missing: () => [serviceName(row.missing.service), ` ${visible(row.missing.kind)} `, own(row.missing.name, 80),
        row.missing.elsewhere ? ` — captured in trace ${row.missing.elsewhere}` : " — ended, and not captured"],
      gap: () => [`✂ ${row.text}`],
      hop: () => [`✂ ${row.text}`, el("small", {}, ` ${row.rule}`)],
      apart: () => [row.apart.linked ? "⇢ " : "✂ apart: ", link(`trace ${row.apart.trace.id}`, `#/trace/${row.apart.trace.id}`), ` ${row.apart.relation}`],
    };
    const isBad = row.kind !== "apart" || !row.apart.linked;
    return el("div", { class: `wrow note-row ${isBad ? "bad" : ""} ${row.kind}` }, label(...texts[row.kind]()));
  }

  drawSpan(row, label) {
    const { span } = row, whole = this.to - this.from;
    const left = 100 * (span.at - this.from) / whole;
    const width = Math.max(0.15, 100 * span.duration / whole);
    const status = span.metrics["http.status_code"] ?? span.meta["http.status_code"];
    const name = `${span.service} ${span.meta["span.kind"] ?? ""} ${span.resource}`;
    return el("div", { class: `wrow span ${span.error ? "error" : ""} ${row.isApart ? "is-apart" : ""}`, "aria-label": visible(`${name}${span.error ? ", error" : ""}, ${time(span.duration)}`).slice(0, 400) },
      label(
        span.error ? el("span", { class: "bad", title: "error" }, "⚠ ") : null,
        row.isVirtual ? el("small", { title: "its parent is the harness's own span, which is known and was not exported" }, "(virtual parent) ") : null,
        row.isCycle ? el("span", { class: "bad" }, "↻ in a cycle ") : null,
        serviceName(span.service), " ", el("span", { class: "kind" }, own(span.meta["span.kind"] ?? "", 10)), " ", own(span.resource, 120),
        status ? el("span", { class: span.error ? "bad" : "kind" }, ` ${shown(status, 5)}`) : null),
      el("div", { class: "wbar" }, el("i", { class: `bar ${colour(span.service)}`, style: { left: `${Math.min(left, 99.7)}%`, width: `${width}%` } })),
      el("div", { class: "wtime" }, time(span.duration)));
  }

  open(row) {
    if (row?.kind === "apart") go(`#/trace/${row.apart.trace.id}`);
    else if (row?.span) this.opened(row.span, row.of);
  }

  fold(row) {
    if (!this.folded.delete(row.id)) this.folded.add(row.id);
    let deeper = Infinity;
    this.rows = this.all.filter((one) => {
      if (one.depth > deeper) return false;
      deeper = this.folded.has(one.id) ? one.depth : Infinity;
      return true;
    });
    this.list.refresh(this.rows.length);
    this.list.choose(this.rows.indexOf(row));
  }

  press(event, at) {
    const row = this.rows[at];
    if (!row) return false;
    const isFolded = this.folded.has(row.id);
    if (event.key === "ArrowRight" && row.below > 0 && isFolded) this.fold(row);
    else if (event.key === "ArrowLeft" && row.below > 0 && !isFolded) this.fold(row);
    else if (event.key === "ArrowLeft") {
      for (let up = at - 1; up >= 0; up -= 1) if (this.rows[up].depth < row.depth) { this.list.choose(up); break; }
    } else return event.key === "ArrowRight";
    return true;
  }
}

async function traceView(id, spanId) {
  const row = state.byId.get(id);
  if (!row && !source.isLive) return notFound(`Trace ${id} is not in this report.`);
  const detail = await source.detail(row ?? { id });
  const scenario = row?.scenario === undefined ? null : state.index.scenarios[row.scenario];
  const head = el("header", { class: "view-head" },
    el("h2", {}, row?.verdict ? [badge(row.verdict), " "] : null, "trace ", el("code", {}, id)),
    el("p", { class: "sub" }, scenario ? ["of ", link(scenario.name, `#/scenario/${encodeURIComponent(scenario.name)}`), " · "] : null,
      row?.request ? [own(row.request, 300), " · "] : null, row ? `${count(row.spans, "span")}, ${count(row.services.length, "service")}, ${time(row.duration)}` : null,
      row?.errors ? el("span", { class: "bad" }, ` · ⚠ ${count(row.errors, "error")}`) : null));
  if (!detail) {
    return [head, el("p", { class: "note" }, "Its spans are not in this file, which holds so many traces at most; `tracecheck show --run DIR` prints it where the run was saved.")];
  }
  const aside = el("div", { class: "aside" });
  const split = el("div", { class: "split" });
  const open = (span, of, isFirst) => {
    const { panel, heading } = spanPanel(span, of, scenario, close);
    aside.replaceChildren(panel);
    split.classList.add("open");
    if (!isFirst) { note(`#/trace/${id}/${span.id}`); heading.focus({ preventScroll: innerWidth > 900 }); }
  };
  const close = () => {
    aside.replaceChildren();
    split.classList.remove("open");
    note(`#/trace/${id}`);
    fall.list.element.focus();
  };
  const fall = new Waterfall(detail, scenario, spanId, open);
  split.append(fall.element, aside);
  state.close = () => split.classList.contains("open") && (close(), true);
  const spans = [detail.trace, ...(detail.apart ?? []).map((one) => one.trace)];
  for (const of of spans) {
    const span = of.spans.find((one) => one.id === spanId);
    if (span) { open(span, of, true); break; }
  }
  const reasons = (detail.not_evaluated ?? []).filter((one) => one.required).map((one) => `${one.rule}: not evaluated, because ${one.because}`);
  const optional = (detail.not_evaluated ?? []).filter((one) => !one.required);
  return [head, diagnosis(detail.failures ?? [], reasons),
    detail.trees ? treesView(detail.trees, detail.failures ?? []) : null,
    fall.all.length ? el("section", {}, el("h3", {}, "Waterfall"), split) : el("p", { class: "note bad" }, "No span of this trace was captured."),
    detail.ledger ? el("section", {}, el("h3", {}, "Ledger"), ledgerGraph(detail.ledger, `ledger of trace ${id}`), detail.ledger_text ? el("p", { class: "note" }, visible(detail.ledger_text)) : null) : null,
    optional.length ? part(`Not evaluated (${optional.length})`, false, el("ul", {}, optional.map((one) => el("li", {}, visible(`${one.rule}, because ${one.because}`))))) : null];
}
