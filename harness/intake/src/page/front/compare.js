// Two runs compared: causes, those that matter most first, each with what it means in Datadog and some of its places.

const IMPACTS = { data: "Spans and traces", monitors: "Monitors, SLOs and APM stats", search: "Searches, facets and dashboards", details: "Details of a span" };
const OUTCOMES = { equal: "pass", undecided: "inconclusive", different: "fail" };

function compareView(query) {
  const { comparison } = state.index;
  const impact = query.get("impact") ?? "";
  const q = (query.get("q") ?? "").toLowerCase();
  const found = comparison.differences.filter((one) => (!impact || one.impact === impact) && (!q || JSON.stringify(one).toLowerCase().includes(q)));
  const hash = (value) => { const to = new URLSearchParams(); if (q) to.set("q", q); if (value) to.set("impact", value); return `#/${to.size ? `?${to}` : ""}`; };
  const chip = (text, value, number) => link(`${text} ${number}`, hash(value), { class: "chip", "aria-current": impact === value });
  const of = (name) => comparison.differences.filter((one) => one.impact === name).length;
  const notes = [...comparison.undecided.map((text) => ["undecided", text]), ...comparison.notes.map((text) => ["note", text])];
  return [
    el("header", { class: "view-head" }, el("h2", {}, "Differences"),
      el("table", { class: "grid" }, el("thead", {}, el("tr", {}, ["run", "traces", "spans", "sent as"].map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", {}, ["a", "b"].map((letter) => { const side = comparison[letter]; return el("tr", {},
          el("td", { class: "main" }, el("b", {}, letter.toUpperCase()), " ", own(side.name)), el("td", {}, side.traces.toLocaleString("en")),
          el("td", {}, side.spans.toLocaleString("en")), el("td", {}, side.forms.join(" and "))); }))),
      el("p", { class: "sub" }, `${count(comparison.pairs, "span")} of ${count(comparison.scenarios, "scenario")} are in both`)),
    notes.length ? el("ul", { class: "notes" }, notes.map(([kind, text]) => el("li", {}, el("b", {}, `${kind}: `), longText(text, 600)))) : null,
    el("div", { class: "filters" }, chip("all", "", comparison.differences.length), Object.keys(IMPACTS).filter(of).map((name) => chip(IMPACTS[name], name, of(name)))),
    Object.keys(IMPACTS).map((name) => {
      const these = found.filter((one) => one.impact === name);
      return these.length ? el("section", { "aria-label": IMPACTS[name] }, el("h3", {}, IMPACTS[name]), these.slice(0, 500).map(differenceCard),
        these.length > 500 ? el("p", { class: "note" }, `${these.length - 500} more are found by the search.`) : null) : null;
    }),
    found.length === 0 ? el("p", { class: "note" }, comparison.differences.length ? "No difference has this text." : "Nothing that was compared differs.") : null,
  ];
}

function differenceCard(one) {
  const unit = { verdict: "scenario", answer: "request", stats: "group" }[one.kind] ?? "span";
  const scenarios = one.scenarios.filter(Boolean);
  return el("article", { class: `card difference ${one.impact === "data" || one.impact === "monitors" ? "fail" : ""}` },
    el("h4", {}, own(one.title, 600), el("span", { class: "sub" }, ` · ${count(one.count, unit)}`)),
    el("p", { class: "headline" }, "In Datadog: ", one.meaning),
    one.stats_that_follow ? el("p", { class: "sub" }, `${count(one.stats_that_follow, "group")} of APM stats with it`) : null,
    scenarios.length ? el("p", { class: "sub" }, scenarios.slice(0, 8).join(", "), scenarios.length > 8 ? ` and ${scenarios.length - 8} more` : null) : null,
    part(`examples (${one.examples.length} of ${one.count})`, false, el("div", { class: "wide" }, el("table", { class: "grid" },
      el("thead", {}, el("tr", {}, ["where", "A", "B"].map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, one.examples.map((example) => el("tr", {},
        el("td", {}, own(example.place), example.scenario ? el("div", { class: "sub" }, own(example.scenario)) : null),
        [["a", "trace_a"], ["b", "trace_b"]].map(([side, trace]) => el("td", {},
          example[side] === undefined ? el("span", { class: "sub" }, "not there") : longText(example[side], 400),
          example[trace] ? el("div", { class: "sub id" }, example[trace]) : null)))))))));
}
