// The views beside the trace: scenarios, one scenario, the service map, the ledger, APM stats.

function scenariosView(query) {
  const { index } = state;
  const verdict = query.get("verdict") ?? "";
  const wanted = index.scenarios.map((scenario) => scenario).filter((one) => !verdict || one.verdict === verdict)
    .sort((one, other) => VERDICTS.indexOf(one.verdict) - VERDICTS.indexOf(other.verdict) || (one.name < other.name ? -1 : 1));
  const of = (name) => index.scenarios.filter((one) => one.verdict === name).length;
  const chip = (text, value, number) => link(`${text} ${number}`, value ? `#/?verdict=${value}` : "#/", { class: `chip ${value}`, "aria-current": verdict === value });
  const bad = wanted.filter((one) => one.verdict === "fail" || one.verdict === "inconclusive");
  const notes = [...index.undecided.map((text) => ["undecided", text]), ...index.warnings.map((text) => ["warning", text])];
  return [
    el("div", { class: "filters" }, chip("all", "", index.scenarios.length), VERDICTS.filter(of).map((name) => chip(name, name, of(name)))),
    notes.length ? el("ul", { class: "notes" }, notes.map(([kind, text]) => el("li", {}, el("b", {}, `${kind}: `), longText(text, 600)))) : null,
    index.left_out ? el("p", { class: "note bad" }, `${count(index.left_out, "trace")} are listed without their spans: this file holds so much at most, and takes what failed first.`) : null,
    bad.length ? el("section", { "aria-label": "what did not pass" }, bad.slice(0, 200).map(card)) : null,
    scenarioTable(wanted),
  ];
}

/** A scenario that did not pass, with its diagnosis. */
function card(scenario) {
  const number = state.index.scenarios.indexOf(scenario);
  const failing = state.index.traces.find((row) => row.scenario === number && row.verdict === "fail");
  const line = scenario.first_failure ?? scenario.reasons[0] ?? "";
  return el("article", { class: `card ${scenario.verdict}` },
    el("h3", {}, badge(scenario.verdict), " ", link(scenario.name, scenarioHash(scenario))),
    el("p", { class: "headline" }, longText(line, 420)),
    el("p", { class: "sub" }, longText(scenario.description, 240),
      failing ? [" ", link(`first failing trace of ${scenario.failing_traces}`, `#/trace/${failing.id}`)] : null));
}

const scenarioHash = (scenario) => `#/scenario/${encodeURIComponent(scenario.name)}`;

function scenarioTable(scenarios) {
  const most = 3_000;
  return el("section", {}, el("div", { class: "wide" }, el("table", { class: "grid" },
    el("thead", {}, el("tr", {}, ["verdict", "scenario", "traces", "spans", "time"].map((name, at) => el("th", { scope: "col", class: at > 1 && "number" }, name)))),
    el("tbody", {}, scenarios.slice(0, most).map((one) => el("tr", {},
      el("td", {}, badge(one.verdict)),
      el("td", { class: "main" }, link(one.name, scenarioHash(one)), el("div", { class: "sub" }, own(one.description, 160))),
      el("td", { class: "number" }, one.requests.toLocaleString("en")), el("td", { class: "number" }, one.spans.toLocaleString("en")),
      el("td", { class: "number" }, `${(one.took_ms / 1000).toFixed(2)} s`)))))),
    scenarios.length > most ? el("p", { class: "note" }, `${scenarios.length - most} more scenarios are found by the search.`) : null);
}

function scenarioView(name) {
  const { index } = state;
  const number = index.scenarios.findIndex((one) => one.name === name);
  if (number < 0) return notFound(`Scenario ${name} is not in this report.`);
  const one = index.scenarios[number];
  const rows = index.traces.filter((row) => row.scenario === number);
  const tall = `${Math.min(Math.max(rows.length, 1), 8) * 54 + 2}px`;
  return [
    el("header", { class: "view-head" }, el("h2", {}, badge(one.verdict), " ", visible(one.name)),
      el("p", { class: "sub" }, longText(one.description, 400)),
      el("p", { class: "sub" }, one.file ? `${visible(one.file)} · ` : null, `${count(one.requests, "trace")}, ${count(one.spans, "span")}, ${(one.took_ms / 1000).toFixed(2)} s`,
        one.revised_from ? el("b", {}, ` · revised by the audit at the end, from ${one.revised_from}`) : null)),
    one.first_failure && one.failures.length === 0
      ? el("section", { class: "diagnosis" }, el("p", { class: "headline" }, longText(one.first_failure, 600))) : null,
    diagnosis(one.failures, one.reasons),
    rows.length ? el("section", {}, el("h3", {}, "Traces"), traceList(() => rows, "traces of the scenario", tall, true).element) : null,
    el("section", {}, el("h3", {}, "Service map"), serviceMap(one.map, `service map of ${name}`)),
    one.ledger ? el("section", {}, el("h3", {}, "Ledger"), ledgerGraph(one.ledger, `ledger of ${name}`),
      one.whole_system ? el("p", { class: "note" }, "the whole system: ", visible(one.whole_system)) : null) : null,
    statsPart(one.stats),
    one.not_evaluated.length ? part(`Not evaluated (${one.not_evaluated.length})`, false, el("ul", {}, one.not_evaluated.map((text) => el("li", {}, longText(text, 400))))) : null,
  ];
}

function mapView() {
  const { map } = state.index;
  const missing = map.edges.filter((edge) => edge[4] > 0).length;
  return [el("header", { class: "view-head" }, el("h2", {}, "service map"),
    el("p", { class: "sub" }, `${count(map.nodes.length, "service")}, ${count(map.edges.length, "edge")}`,
      missing ? el("span", { class: "bad" }, ` · ${missing} with missing calls, dashed`) : null)),
  serviceMap(map, "service map of all traces")];
}

function ledgerView() {
  const withLedger = state.index.scenarios.filter((one) => one.ledger)
    .sort((one, other) => VERDICTS.indexOf(one.verdict) - VERDICTS.indexOf(other.verdict));
  return [el("header", { class: "view-head" }, el("h2", {}, "ledger"),
    el("p", { class: "sub" }, "How many spans each stage had: ended by the services, accepted and sent by the collector, captured by the intake. Differences are red.")),
  withLedger.slice(0, 100).map((one) => el("section", {}, el("h3", {}, badge(one.verdict), " ", link(one.name, scenarioHash(one))), ledgerGraph(one.ledger, `ledger of ${one.name}`))),
  withLedger.length > 100 ? el("p", { class: "note" }, `${withLedger.length - 100} more are with their scenarios.`) : null,
  withLedger.length === 0 ? el("p", { class: "note" }, "No scenario has a ledger.") : null];
}

function statsView() {
  const { index } = state;
  const head = el("header", { class: "view-head" }, el("h2", {}, "APM stats"));
  if (index.kind === "live") {
    return [head, index.stats.length ? statsTable(index.stats) : el("p", { class: "note" }, "No stats were accepted yet.")];
  }
  const of = index.scenarios.filter((one) => one.stats?.groups);
  return [head, of.length === 0 ? el("p", { class: "note" }, "No scenario of this run asks for APM stats (`expect: { stats: … }`), so none were waited for.") : null,
    of.map((one) => el("div", {}, el("h3", {}, badge(one.verdict), " ", link(one.name, scenarioHash(one))), statsPart(one.stats)))];
}

const notFound = (text) => [el("p", { class: "note bad" }, visible(text)), el("p", {}, link("all there is", "#/"))];
