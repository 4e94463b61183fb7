// The ledger as a picture: from the services over the collector to the intake; what is lost on the way is red.

/** How many fewer, or more, than there should be. */
const difference = (got, of) => got === of ? "" : ` (${got < of ? "−" : "+"}${Math.abs(of - got)})`;

function ledgerGraph(ledger, label) {
  const nodes = [], edges = [];
  let ended = 0, isKnown = true;
  const services = Object.entries(ledger.services);
  assignColours(services.map(([name]) => name));
  for (const [name, one] of services) {
    const known = one.ended !== undefined;
    isKnown &&= known;
    ended += one.ended ?? 0;
    const differs = known && one.ended !== one.captured;
    nodes.push({
      id: `service ${name}`, title: name, service: name, layer: 0, dashed: !known, tone: differs ? "bad" : "",
      lines: [
        { text: known ? `ended ${one.ended}` : "no ledger" },
        ...(one.sampled_out ? [{ text: `sampled out ${one.sampled_out}` }] : []),
        { text: `captured ${one.captured}${known ? difference(one.captured, one.ended) : ""}`, tone: differs ? "bad" : "" },
      ],
    });
  }
  const { collector } = ledger;
  const sent = collector ? Object.entries(collector.exported) : [];
  const dropped = collector ? Object.entries(collector.dropped ?? {}) : [];
  const acceptedDiffers = collector && isKnown && collector.accepted !== ended;
  nodes.push({
    id: "collector", title: "collector", layer: 1, dashed: !collector,
    tone: acceptedDiffers || dropped.length > 0 ? "bad" : "",
    lines: collector ? [
      { text: `accepted ${collector.accepted}${isKnown ? difference(collector.accepted, ended) : ""}`, tone: acceptedDiffers ? "bad" : "" },
      ...(collector.refused ? [{ text: `refused ${collector.refused}`, tone: "bad" }] : []),
      ...sent.map(([id, number]) => ({ text: `${id} sent ${number}` })),
      ...dropped.map(([reason, number]) => ({ text: `dropped ${number} (${reason})`, tone: "bad" })),
    ] : [{ text: "no ledger of traces" }],
  });
  const toDatadog = sent.filter(([id]) => id.split("/")[0] === "datadog");
  const before = toDatadog.length === 1 ? toDatadog[0][1] : collector ? collector.accepted : isKnown ? ended : null;
  const capturedDiffers = before !== null && before !== ledger.captured;
  nodes.push({
    id: "intake", title: "intake", layer: 2, tone: capturedDiffers ? "bad" : "",
    lines: [{ text: `captured ${ledger.captured}${before === null ? "" : difference(ledger.captured, before)}`, tone: capturedDiffers ? "bad" : "" }],
  });
  for (const [name, one] of services) {
    const differs = one.ended !== undefined && one.ended !== one.captured;
    const number = one.ended ?? one.captured;
    edges.push({
      from: `service ${name}`, to: "collector", text: String(number), tone: differs ? "bad" : "", dashed: differs && one.captured === 0,
      width: Math.min(8, 1.5 + Math.log2(number + 1)),
    });
  }
  edges.push({
    from: "collector", to: "intake", text: String(before ?? ledger.captured), tone: capturedDiffers ? "bad" : "",
    dashed: capturedDiffers && ledger.captured === 0, width: Math.min(8, 1.5 + Math.log2(ledger.captured + 1)),
  });
  return graph(label, nodes, edges);
}

/** Groups of APM stats beside the spans that they count. */
function statsTable(groups) {
  const sorted = [...groups].sort((one, other) => Number(one[3]) - Number(other[3]));
  const cell = (number, isBad) => el("td", { class: `number ${isBad ? "bad" : ""}` }, number.toLocaleString("en"));
  const hasSpans = groups.some((group) => group[2]);
  return el("div", { class: "wide" }, el("table", { class: "grid" },
    el("thead", {}, el("tr", {}, ["service", "operation name", "resource name", "kind", "hits", "errors",
      ...(hasSpans ? ["hits of spans", "errors of spans", ""] : [])].map((name, at) => el("th", { scope: "col", class: at > 3 && at < 8 && "number" }, name)))),
    el("tbody", {}, sorted.slice(0, 1_000).map(([[service, name, resource, kind], stats, spans, agrees]) => el("tr", {},
      el("td", {}, serviceName(service)), el("td", {}, own(name, 80)), el("td", {}, own(resource, 80)), el("td", {}, own(kind, 20)),
      cell(stats[0], spans && stats[0] !== spans[0]), cell(stats[1], spans && stats[1] !== spans[1]),
      ...(spans ? [cell(spans[0], stats[0] !== spans[0]), cell(spans[1], stats[1] !== spans[1]),
        el("td", { class: agrees ? "" : "bad" }, agrees ? "agree" : "differ")] : []))))),
    sorted.length > 1_000 ? el("p", { class: "note" }, `${sorted.length - 1_000} more groups are not shown.`) : null);
}

function statsPart(stats) {
  if (!stats) return null;
  if (stats.none) return el("p", { class: "note" }, `APM stats: ${stats.none}.`);
  const wrong = stats.groups.filter((group) => !group[3]).length;
  return el("section", {}, el("h3", {}, "APM stats beside the spans they count"),
    wrong > 0 ? el("p", { class: "bad" }, `${count(wrong, "group")} of ${stats.groups.length} differ.`) : null,
    stats.groups.length > 0 ? statsTable(stats.groups) : el("p", { class: "note" }, "No stats were captured, and no span is counted in any."));
}
