// Search: by trace id, service and the texts of the list at once; through the texts of all spans where they are in the file.

const lower = (text) => String(text).toLowerCase();

/** Returns whether the list's own texts of a trace have all words. */
function rowHas(row, words) {
  const { index } = state;
  const texts = [row.id, row.resource, row.request ?? "", row.failure ?? "", index.scenarios?.[row.scenario]?.name ?? "",
    ...row.services.map((number) => index.services[number])].map(lower);
  return words.every((word) => texts.some((text) => text.includes(word)));
}

/** Returns whether a value, or a text in it, or a key of meta or metrics has a word. */
function valueHas(value, word, key) {
  if (typeof value === "string") return lower(value).includes(word);
  if (Array.isArray(value)) return value.some((one) => valueHas(one, word));
  if (value && typeof value === "object") {
    const isTags = key === "meta" || key === "metrics";
    return Object.entries(value).some(([name, one]) => (isTags && lower(name).includes(word)) || valueHas(one, word, name));
  }
  return typeof value === "number" && String(value) === word;
}

/** Looks through the spans of rows, block by block; gives the rows that have all words, and how far it is. */
async function searchSpans(rows, words, found, isOver) {
  const byBlock = new Map();
  for (const row of rows) {
    if (!row.place) continue;
    if (!byBlock.has(row.place[0])) byBlock.set(row.place[0], []);
    byBlock.get(row.place[0]).push(row);
  }
  const raw = words.map((word) => JSON.stringify(word).slice(1, -1));
  let done = 0;
  for (const [block, some] of byBlock) {
    if (isOver()) return;
    const lines = await source.lines(block);
    const having = some.filter((row) => {
      const line = lower(lines[row.place[1]]);
      if (!raw.every((word) => line.includes(word))) return false;
      const { trace, apart } = JSON.parse(lines[row.place[1]]);
      return words.every((word) => valueHas({ trace, apart }, word));
    });
    done += 1;
    if (isOver()) return;
    found(having, done / byBlock.size);
    await new Promise((resolve) => setTimeout(resolve));
  }
}

/** The list of traces with what it is filtered by. */
function tracesView(query) {
  const { index } = state;
  const wanted = { q: query.get("q") ?? "", verdict: query.get("verdict") ?? "", service: query.get("service") ?? "" };
  const counts = new Map();
  index.traces.forEach((row) => counts.set(row.verdict, (counts.get(row.verdict) ?? 0) + 1));
  const filtered = (change) => {
    const to = new URLSearchParams(Object.entries({ ...wanted, ...change }).filter(([, value]) => value));
    return `#/traces${to.size ? `?${to}` : ""}`;
  };
  const chip = (text, verdict, number) => link(`${text} ${number.toLocaleString("en")}`, filtered({ verdict }), {
    class: `chip ${verdict}`, "aria-current": wanted.verdict === verdict,
  });
  const services = el("select", { "aria-label": "service", change: (event) => go(filtered({ service: event.target.value })) },
    el("option", { value: "" }, "all services"),
    [...index.services].sort().map((name) => el("option", { value: name, selected: name === wanted.service }, shown(name, 60))));
  const bar = el("div", { class: "filters" },
    index.kind === "run" ? [chip("all", "", index.traces.length), VERDICTS.filter((one) => counts.has(one)).map((one) => chip(one, one, counts.get(one)))] : null, services);
  const words = lower(wanted.q).split(/\s+/).filter(Boolean);
  const eligible = index.traces.filter((row) => (!wanted.verdict || row.verdict === wanted.verdict)
    && (!wanted.service || row.services.some((number) => index.services[number] === wanted.service)));
  let rows = eligible.filter((row) => rowHas(row, words));
  const status = el("p", { class: "note", role: "status" });
  const say = (more = "") => { status.textContent = `${count(rows.length, "trace")} of ${index.traces.length.toLocaleString("en")}${more}`; };
  const list = traceList(() => rows, "traces");
  say();
  if (words.length > 0 && !source.isLive) {
    const own = state.view;
    const others = eligible.filter((row) => !rowHas(row, words));
    const number = new Map(index.traces.map((row, at) => [row, at]));
    searchSpans(others, words, (found, done) => {
      if (found.length > 0) {
        rows = [...rows, ...found].sort((one, other) => number.get(one) - number.get(other));
        list.refresh(rows.length);
      }
      say(done < 1 ? `, looking through spans: ${Math.floor(done * 100)} %` : ", by their spans too");
    }, () => state.view !== own);
  }
  return [el("header", { class: "view-head" }, el("h2", {}, wanted.q ? ["traces with “", own(wanted.q, 80), "”"] : "traces")), bar, status,
    list.element, index.traces.length === 0 ? el("p", { class: "note" }, source.isLive ? "Nothing was accepted yet." : "No trace is in this report.") : null];
}

/** A list of traces, a line each. */
function traceList(rows, label, tall, isOfOne = false) {
  const { index } = state;
  return new List({
    label, count: rows().length, height: 54, tall,
    open: (number) => go(`#/trace/${rows()[number].id}`),
    draw: (number) => {
      const row = rows()[number];
      const scenario = index.scenarios?.[row.scenario];
      return el("div", { class: `trow ${row.verdict ?? ""}` },
        el("div", { class: "tline" },
          row.verdict ? badge(row.verdict) : null, " ", link(row.id, `#/trace/${row.id}`, { class: "id", tabindex: "-1" }), " ",
          own(row.resource || "no span captured", 80), el("span", { class: "right" },
            row.errors ? el("span", { class: "bad" }, `⚠ ${row.errors} `) : null, `${count(row.spans, "span")} · ${time(row.duration)}`)),
        el("div", { class: "tline sub" }, scenario && !isOfOne ? `${scenario.name} · ` : null,
          row.failure ? el("span", { class: "bad" }, own(row.failure, 200)) : own(row.request ?? new Date(row.start).toISOString(), 120),
          el("span", { class: "right" }, row.services.slice(0, 6).map((service) => [serviceName(index.services[service]), " "]),
            row.services.length > 6 ? `+${row.services.length - 6}` : null)));
    },
  });
}
