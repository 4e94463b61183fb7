// A graph in layers, as SVG: the service map and the ledger. Layers by the longest way from a source; within a layer each node near its
// neighbours; from left to right, or from above where the page is narrow.

/**
 * @param nodes `{ id, title, lines: [{ text, tone }], tone, dashed, layer?, service? }`
 * @param edges `{ from, to, text, tone, dashed, width }`
 */
function graph(label, nodes, edges) {
  const down = innerWidth < 720;
  const layers = layered(nodes, edges);
  const size = { width: down ? 112 : 176, height: 40, line: 15, letters: down ? 13 : 21 };
  const heightOf = (node) => size.height + size.line * node.lines.length;
  const tallest = Math.max(...nodes.map(heightOf), 40);
  const between = down ? 56 : 130, beside = down ? 6 : 22;
  const widest = Math.max(...layers.map((layer) => layer.length));
  const across = down ? size.width + beside : tallest + beside;
  layers.forEach((layer, depth) => layer.forEach((node, place) => {
    const shift = (widest - layer.length) * across / 2 + place * across + 4;
    const along = depth * ((down ? tallest : size.width) + between) + 4;
    Object.assign(node, { x: down ? shift : along, y: down ? along : shift, h: heightOf(node) });
  }));
  const width = Math.max(...nodes.map((node) => node.x + size.width)) + 4;
  const height = Math.max(...nodes.map((node) => node.y + node.h)) + (edges.some((edge) => edge.back) ? 60 : 4);
  const at = new Map(nodes.map((node) => [node.id, node]));
  const svg = el("svg:svg", {
    class: "graph", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label,
  });
  for (const edge of edges) svg.append(...drawEdge(edge, at.get(edge.from), at.get(edge.to), size.width, down));
  for (const node of nodes) svg.append(drawNode(node, size));
  return el("div", { class: "graph-frame", tabindex: "0", role: "group", "aria-label": label }, svg, asTable(label, nodes, edges));
}

/** Puts nodes into layers and orders each; sets `back` of edges that lead back. */
function layered(nodes, edges) {
  const out = new Map(nodes.map((node) => [node.id, []]));
  for (const edge of edges) { edge.back = false; out.get(edge.from).push(edge); }
  const layer = new Map(), state = new Map();
  const isTarget = new Set(edges.map((edge) => edge.to));
  const order = [];
  // Depth first without recursion, finding edges that close a cycle.
  const starts = [...nodes.filter((node) => !isTarget.has(node.id)), ...nodes];
  for (const start of starts) {
    const open = [[start.id, 0]];
    if (state.has(start.id)) continue;
    state.set(start.id, "open");
    while (open.length > 0) {
      const top = open.at(-1), edge = out.get(top[0])[top[1]];
      if (!edge) { state.set(top[0], "done"); order.unshift(top[0]); open.pop(); continue; }
      top[1] += 1;
      if (state.get(edge.to) === "open") edge.back = true;
      else if (!state.has(edge.to)) { state.set(edge.to, "open"); open.push([edge.to, 0]); }
    }
  }
  for (const node of nodes) layer.set(node.id, node.layer ?? 0);
  for (const id of order) {
    for (const edge of out.get(id)) {
      if (!edge.back && edge.from !== edge.to) layer.set(edge.to, Math.max(layer.get(edge.to), layer.get(id) + 1));
    }
  }
  const layers = [];
  for (const node of nodes) (layers[layer.get(node.id)] ??= []).push(node);
  const filled = layers.filter(Boolean);
  const place = new Map();
  const note = () => filled.forEach((nodes) => nodes.forEach((node, at) => place.set(node.id, at / nodes.length)));
  note();
  for (let sweep = 0; sweep < 4; sweep += 1) {
    for (const nodes of filled) {
      const middle = (node) => {
        const near = edges.filter((edge) => edge.from === node.id || edge.to === node.id)
          .map((edge) => place.get(edge.from === node.id ? edge.to : edge.from));
        return near.length ? near.reduce((sum, at) => sum + at, 0) / near.length : place.get(node.id);
      };
      const middles = new Map(nodes.map((node) => [node, middle(node)]));
      nodes.sort((one, other) => middles.get(one) - middles.get(other));
      note();
    }
  }
  return filled;
}

function drawNode(node, size) {
  const group = el("svg:g", { class: `node ${node.tone ?? ""} ${node.dashed ? "dashed" : ""} ${node.service ? colour(node.service) : ""}` });
  group.append(el("svg:rect", { x: node.x, y: node.y, width: size.width, height: node.h, rx: 8 }));
  if (node.service) group.append(el("svg:rect", { class: "mark", x: node.x, y: node.y + 6, width: 4, height: node.h - 12, rx: 2 }));
  group.append(el("svg:title", {}, visible(node.title)));
  group.append(el("svg:text", { class: "title", x: node.x + 14, y: node.y + 25 }, shown(node.title, size.letters)));
  node.lines.forEach((line, number) => group.append(el("svg:text", {
    class: `line ${line.tone ?? ""}`, x: node.x + 14, y: node.y + 25 + size.line * (number + 1) + 2,
  }, shown(line.text, size.letters + 6))));
  return group;
}

function drawEdge(edge, from, to, width, down) {
  const start = down ? [from.x + width / 2, from.y + from.h] : [from.x + width, from.y + from.h / 2];
  const end = down ? [to.x + width / 2, to.y] : [to.x, to.y + to.h / 2];
  let path, middle;
  if (edge.back || edge.from === edge.to) {
    const low = Math.max(from.y + from.h, to.y + to.h) + 36;
    const [a, b] = [from.x + width / 2, to.x + width / 2 + (edge.from === edge.to ? 30 : 0)];
    path = `M${a},${from.y + from.h} C${a},${low} ${b},${low} ${b},${to.y + to.h}`;
    middle = [(a + b) / 2, low - 6];
  } else {
    const bend = down ? [0, (end[1] - start[1]) / 2] : [(end[0] - start[0]) / 2, 0];
    path = `M${start} C${start[0] + bend[0]},${start[1] + bend[1]} ${end[0] - bend[0]},${end[1] - bend[1]} ${end}`;
    middle = [(start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - (down ? 0 : 6)];
  }
  const tone = `edge ${edge.tone ?? ""} ${edge.dashed ? "dashed" : ""}`;
  const label = el("svg:text", { class: `edge-text ${edge.textTone || edge.tone || ""}`, x: middle[0] + (down ? 8 : 0), y: middle[1], "text-anchor": down ? "start" : "middle" }, edge.text);
  const head = edge.back ? [] : [el("svg:path", {
    class: `head ${edge.tone ?? ""}`,
    d: down ? `M${end[0] - 5},${end[1] - 8} L${end} L${end[0] + 5},${end[1] - 8}` : `M${end[0] - 8},${end[1] - 5} L${end} L${end[0] - 8},${end[1] + 5}`,
  })];
  return [el("svg:path", { class: tone, d: path, "stroke-width": edge.width ?? 1.5 }), ...head, label];
}

/** The same as a table, for who cannot see the picture. */
function asTable(label, nodes, edges) {
  const names = new Map(nodes.map((node) => [node.id, node.title]));
  return el("table", { class: "unseen" }, el("caption", {}, label), el("tbody", {},
    nodes.map((node) => el("tr", {}, el("th", {}, visible(node.title)), el("td", {}, node.lines.map((line) => line.text).join("; ")))),
    edges.map((edge) => el("tr", {}, el("th", {}, visible(`${names.get(edge.from)} → ${names.get(edge.to)}`)), el("td", {}, edge.text)))));
}

/** The service map: edges with their calls and errors; what is missing is dashed. */
function serviceMap(map, label) {
  if (map.nodes.length === 0) return el("p", { class: "note" }, "No span was captured, so there is no map.");
  assignColours(map.nodes.map(([name]) => name));
  const nodes = map.nodes.map(([name, spans, errors]) => ({
    id: name, title: name, service: name, dashed: spans === 0,
    lines: [
      { text: spans === 0 ? "no span captured" : count(spans, "span"), tone: spans === 0 ? "bad" : "" },
      ...(errors > 0 ? [{ text: `⚠ ${count(errors, "error")}`, tone: "bad" }] : []),
    ],
  }));
  const edges = map.edges.map(([from, to, calls, errors, missing]) => ({
    from, to, dashed: missing > 0, tone: missing > 0 || errors === calls ? "bad" : "", textTone: errors > 0 ? "bad" : "",
    width: Math.min(5, 1.5 + Math.log10(calls + 1)),
    text: [
      calls > 0 || missing === 0 ? count(calls, "call") : null,
      errors > 0 ? `${errors} ⚠` : null,
      missing > 0 ? `${missing} missing` : null,
    ].filter(Boolean).join(", "),
  }));
  return graph(label, nodes, edges);
}
