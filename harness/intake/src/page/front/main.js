// What is looked at, by the address; and the keyboard.

const state = { index: null, byId: new Map(), view: 0, at: null, close: null };

const TABS = {
  run: [["scenarios", "#/"], ["traces", "#/traces"], ["map", "#/map"], ["ledger", "#/ledger"], ["stats", "#/stats"]],
  compare: [["differences", "#/"]],
  live: [["traces", "#/traces"], ["map", "#/map"], ["stats", "#/stats"]],
};

const KEYS = [
  ["/", "search"], ["1 … 5", "the tabs"], ["↓ ↑ or j k", "the next or previous line of a list"], ["PgDn PgUp Home End", "further in a list"],
  ["Enter", "open the line"], ["← →", "fold and unfold spans"], ["n p", "the next or previous trace that failed"], ["Esc", "close the span, then back"], ["?", "this"],
];

/** Goes to an address. Draws it now, before `hashchange` comes, so that the next key is for what was asked for. */
const go = (hash) => { location.hash = hash; follow(); };
/** Sets the address without showing anything else. */
const note = (hash) => { history.replaceState(null, "", hash); state.at = location.hash; document.documentElement.dataset.at = state.at; };

/** Draws what the address names, unless that is drawn or being drawn. */
function follow() {
  if (location.hash === state.at) return;
  const q = new URLSearchParams(location.hash.split("?")[1] ?? "").get("q") ?? "";
  if (document.activeElement !== byId("search")) byId("search").value = q;
  render();
}

function route() {
  const hash = location.hash.replace(/^#\/?/, "");
  const [path, query] = hash.split("?", 2);
  const [view, ...rest] = path.split("/").map((piece) => { try { return decodeURIComponent(piece); } catch { return piece; } });
  const params = new URLSearchParams(query ?? "");
  const isLive = state.index.kind === "live";
  if (state.index.kind === "compare") return ["differences", () => compareView(params)];
  // As the intake's page once named a trace.
  if (/^[0-9a-f]{32}$/.test(view)) return ["traces", () => traceView(view, rest[0])];
  switch (view) {
    case "": case "scenarios": return isLive ? ["traces", () => tracesView(params)] : ["scenarios", () => scenariosView(params)];
    case "scenario": return ["scenarios", () => isLive ? notFound("The intake knows no scenarios.") : scenarioView(rest[0])];
    case "traces": return ["traces", () => tracesView(params)];
    case "trace": return ["traces", () => traceView(rest[0], rest[1])];
    case "map": return ["map", mapView];
    case "ledger": return ["ledger", () => isLive ? notFound("The intake knows no ledgers.") : ledgerView()];
    case "stats": return ["stats", statsView];
    default: return ["", () => notFound(`There is no page ${view}.`)];
  }
}

async function render({ keep = false } = {}) {
  const number = state.view += 1;
  const at = state.at = location.hash;
  const [tab, view] = route();
  state.close = null;
  let content;
  try { content = await view(); } catch (error) { content = notFound(`This cannot be shown: ${error.message ?? error}`); }
  if (number !== state.view) return;
  document.querySelectorAll("nav a").forEach((one) => {
    if (one.dataset.tab === tab) one.setAttribute("aria-current", "page"); else one.removeAttribute("aria-current");
  });
  byId("view").replaceChildren(...[content].flat(3).filter(Boolean));
  if (!keep) {
    scrollTo(0, 0);
    const list = byId("view").querySelector(".list");
    if (list && document.activeElement?.id !== "search") list.focus({ preventScroll: true });
  }
  Object.assign(document.documentElement.dataset, { at, shown: String(Math.round(performance.now())) });
}

function frame() {
  const { index } = state;
  const tabs = TABS[index.kind];
  const search = el("input", {
    id: "search", type: "search", placeholder: index.kind === "compare" ? "any text  ( / )" : "trace id, service, any text  ( / )", "aria-label": "search", maxlength: "200", autocomplete: "off", spellcheck: "false",
    value: new URLSearchParams(location.hash.split("?")[1] ?? "").get("q"),
    input: () => {
      clearTimeout(search.soon);
      search.soon = setTimeout(() => {
        const page = index.kind === "compare" ? "#/" : "#/traces";
        const to = new URLSearchParams(location.hash.startsWith(page) ? location.hash.split("?")[1] ?? "" : "");
        if (search.value.trim()) to.set("q", search.value.trim()); else to.delete("q");
        go(`${page}${to.size ? `?${to}` : ""}`);
      }, 150);
    },
    keydown: (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") { document.querySelector("#view .list")?.focus(); event.preventDefault(); }
      if (event.key === "Escape") search.blur();
      event.stopPropagation();
    },
  });
  document.body.replaceChildren(
    el("a", { class: "skip", href: "#view", click: (event) => { event.preventDefault(); byId("view").focus(); } }, "to the content"),
    el("header", { id: "top" }, el("h1", {}, head()), el("nav", { "aria-label": "views" }, tabs.map(([name, hash], at) => link(name, hash, { "data-tab": name, title: `key ${at + 1}` }))), search),
    el("main", { id: "view", tabindex: "-1" }), help(),
    el("footer", {}, `tracecheck ${index.version} · `, el("button", { type: "button", class: "plain", click: () => byId("help").showModal() }, "keys ( ? )")));
}

/** The first line of the page. */
function head() {
  const { index } = state;
  return index.kind === "compare"
    ? [el("span", { class: `badge ${OUTCOMES[index.comparison.outcome]}` }, index.comparison.outcome), " ", el("b", {}, "tracecheck"),
      el("span", { class: "sub" }, " two runs compared · ", el("time", { datetime: new Date(index.at).toISOString() }, new Date(index.at).toLocaleString()))]
    : index.kind === "run"
    ? [badge(index.verdict), " ", el("b", {}, "tracecheck"), el("span", { class: "sub" }, ` run ${index.run} · ${visible(index.environment)} · ${(index.took_ms / 1000).toFixed(1)} s · `,
      el("time", { datetime: new Date(index.at).toISOString() }, new Date(index.at).toLocaleString()))]
    : [el("b", {}, "tracecheck intake"), el("span", { class: "sub", id: "counts" })];
}

const help = () => el("dialog", { id: "help", "aria-label": "keys" }, el("h2", {}, "Keys"), pairs(KEYS, "keys"),
  el("form", { method: "dialog" }, el("button", {}, "close")));

function step(direction) {
  const failing = state.index.traces.filter((row) => row.verdict === "fail");
  if (failing.length === 0) return;
  const current = failing.findIndex((row) => location.hash.includes(row.id));
  const next = current < 0 ? (direction > 0 ? 0 : failing.length - 1) : (current + direction + failing.length) % failing.length;
  go(`#/trace/${failing[next].id}`);
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input,select,dialog[open]")) return;
  const tab = TABS[state.index.kind][Number(event.key) - 1];
  if (event.key === "/") byId("search").focus();
  else if (tab) go(tab[1]);
  else if (event.key === "?") byId("help").showModal();
  else if (event.key === "n") step(1);
  else if (event.key === "p") step(-1);
  else if (event.key === "Escape") { if (!state.close?.()) history.back(); }
  else return;
  event.preventDefault();
}

async function load() {
  const index = await source.index();
  state.index = index;
  state.byId = new Map(index.traces.map((row) => [row.id, row]).reverse());
  assignColours(index.services);
}

function live() {
  const news = () => {
    const { counts } = state.index;
    const isIntake = state.index.kind === "live";
    if (!isIntake) document.querySelector("#top h1").replaceChildren(...head().flat(), el("span", { class: "sub", id: "counts" }));
    const accepted = isIntake ? ` ${count(counts.kept.traces, "trace")}, ${count(counts.spans, "span")} accepted, ${counts.undecodable} unreadable, ` +
      `${counts.redelivered} redelivered, ${counts.dropped.attempts} pushed out` : "";
    byId("counts").textContent = `${accepted}${state.isCut ? ` · ${isIntake ? "the intake" : "tracecheck"} does not answer` : ""}`;
  };
  news();
  source.follow(async () => {
    try { await load(); } catch { state.isCut = true; }
    news();
    // What somebody is reading stays as it is.
    if (!location.hash.startsWith("#/trace/")) await render({ keep: true });
  }, (isOpen) => { state.isCut = !isOpen; news(); });
}

async function start() {
  try {
    if (typeof DecompressionStream === "undefined") throw new Error("it needs a browser of 2023 or later");
    await load();
  } catch (error) {
    document.body.prepend(el("p", { class: "note bad" }, `This page cannot be shown: ${error.message ?? error}`));
    return;
  }
  frame();
  await render();
  addEventListener("hashchange", follow);
  addEventListener("keydown", press);
  addEventListener("beforeprint", () => document.querySelectorAll(".list").forEach((one) => one.rows.show(true)));
  if (source.isLive) live();
}

start();
