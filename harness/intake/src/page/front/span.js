// Everything that is known of one span.

/** JSON to read, in which big integers are numbers. */
function pretty(value) {
  const text = JSON.stringify(value, (_, one) => typeof one === "bigint" ? `\u0000${one}\u0000` : one, 2) ?? "null";
  return text.replace(/"\\u0000(-?\d+)\\u0000"/g, "$1");
}

const rawBlock = (value) => el("pre", { class: "raw", tabindex: "0" }, longText(pretty(value), 6_000));

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return Array.isArray(value) ? value : null;
  } catch { return null; }
}

/** The span as its payload has it. */
function datadogSpan(span, trace) {
  const low = span.trace_id ?? BigInt(`0x${trace.id.slice(16)}`).toString();
  const { error, ...more } = span.raw ?? {};
  return {
    service: span.service, name: span.name, resource: span.resource, traceID: BigInt(low), spanID: BigInt(`0x${span.id}`),
    parentID: span.parent ? BigInt(`0x${span.parent}`) : 0, start: BigInt(trace.start) + BigInt(span.at), duration: span.duration,
    error: error ?? (span.error ? 1 : 0), meta: span.meta, metrics: span.metrics, type: span.type ?? "", ...more,
  };
}

/** The parts `Raw OTLP` and `Raw Datadog payload` of a span. */
function rawParts(span, trace) {
  const payload = trace.payloads[span.payload];
  const attempt = payload.path && {
    attempt: payload.attempt, path: payload.path, receivedAt: BigInt(payload.received_at), reply: payload.reply, bodyBytes: payload.body_bytes,
  };
  const note = (text) => el("p", { class: "note" }, text);
  const none = "No raw payload is in the record";
  if (payload.form === "api") {
    return [part("Raw payload", false, note(`${none}: Datadog's API reported this span, without keys that begin with \`_\`.`))];
  }
  if (payload.form === "otlp") {
    return [
      part("Raw OTLP", false, payload.shared
        ? rawBlock({ attempt, ...payload.shared, span: span.raw }) : note(`${none}: the attempt that brought the span is not kept.`)),
      part("Raw Datadog payload", false, note(
        "There is none: the span was sent as OTLP, and Datadog creates its own on its side. What is shown above follows Datadog's rules for that.")),
    ];
  }
  return [
    part("Raw Datadog payload", false, rawBlock({ attempt, ...payload.shared, span: datadogSpan(span, trace) })),
    part("Raw OTLP", false, note(
      "Not in the record: the collector sent this span in Datadog's form, and what services send to the collector is not captured.")),
  ];
}

function eventsOf(span) {
  return span.raw?.spanEvents ?? span.raw?.events ?? parsed(span.meta.events ?? "") ?? [];
}

function linksOf(span) {
  const sent = span.raw?.spanLinks ?? span.raw?.links;
  if (!sent) return parsed(span.meta["_dd.span_links"] ?? "") ?? [];
  const hex = (text) => BigInt(text).toString(16).padStart(16, "0");
  return sent.map((one) => one.trace_id !== undefined
    ? { ...one, trace_id: hex(one.trace_id_high ?? 0) + hex(one.trace_id), span_id: hex(one.span_id) }
    : { ...one, trace_id: one.traceId, span_id: one.spanId });
}

function eventView(event) {
  const name = event.name ?? "event", nanos = event.time_unix_nano ?? event.timeUnixNano;
  const attributes = Array.isArray(event.attributes)
    ? Object.fromEntries(event.attributes.map((one) => [one.key, one.value])) : event.attributes ?? {};
  const rows = Object.entries(attributes).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]);
  return el("div", { class: "event" }, el("h4", {}, own(name), nanos ? el("small", {}, ` ${nanos} ns`) : null), pairs(rows, name));
}

function linkView(one) {
  const id = String(one.trace_id ?? ""), span = String(one.span_id ?? "");
  const isKnown = /^[0-9a-f]{32}$/.test(id) && state.byId.has(id);
  const rows = [
    ["trace", isKnown ? link(id, `#/trace/${id}/${span}`) : `${id}${source.isLive ? "" : " (not in this report)"}`], ["span", span],
    ...Object.entries(one.attributes ?? {}).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  ];
  return el("div", { class: "event" }, pairs(rows, "link"));
}

/** The group of APM stats that counts a span. */
function statsOf(span, scenario) {
  const groups = scenario?.stats?.groups;
  if (!groups) return null;
  const kind = span.meta["span.kind"] ?? "";
  const own = groups.find(([[service, name, resource, of]]) =>
    service === span.service && name === span.name && resource === span.resource && of === kind);
  return part("APM stats", false, own
    ? statsTable([own]) : el("p", { class: "note" }, "No group of the stats counts this span."));
}

function spanPanel(span, trace, scenario, close) {
  const kind = span.meta["span.kind"];
  const events = eventsOf(span), links = linksOf(span);
  const payload = trace.payloads[span.payload];
  const facts = [
    ["service", serviceName(span.service)], ["operation name", span.name], ["resource name", span.resource],
    ["type", span.type ?? ""], ["kind", kind ?? ""], ["begins after", time(span.at)], ["duration", time(span.duration)],
    ["span id", el("code", {}, span.id)], ["parent", span.parent ? el("code", {}, span.parent) : "none"], ["trace id", el("code", {}, trace.id)],
    ["hostname", payload.hostname], ["env", payload.env], ["sampling priority", String(payload.priority)],
  ].filter(([, value]) => value !== "");
  const heading = el("h3", { tabindex: "-1" }, own(span.resource || span.name, 120));
  const panel = el("aside", { class: "panel", "aria-label": "span" },
    el("div", { class: "panel-head" }, heading, el("button", { type: "button", class: "close", click: close, "aria-label": "close the span" }, "✕")),
    span.error ? el("p", { class: "error-line" }, "⚠ error", span.meta["error.message"] ? ": " : "", longText(span.meta["error.message"] ?? span.meta["error.msg"] ?? "", 300)) : null,
    pairs(facts, "span"),
    part(`Meta (${Object.keys(span.meta).length})`, true, pairs(Object.entries(span.meta), "meta")),
    part(`Metrics (${Object.keys(span.metrics).length})`, true, pairs(Object.entries(span.metrics), "metrics")),
    part(`Events (${events.length})`, events.length > 0, events.slice(0, 200).map(eventView),
      events.length > 200 ? el("p", { class: "note" }, `${events.length - 200} more are in the raw payload.`) : null),
    part(`Links (${links.length})`, links.length > 0, links.slice(0, 200).map(linkView)),
    statsOf(span, scenario), rawParts(span, trace));
  return { panel, heading };
}
