// The spans of a trace in the order in which they are drawn: each top with what hangs below it.

/**
 * Returns the rows of a trace: spans with their depth, and between them what is missing. Every span is in it once, those that came twice
 * twice, and those in a cycle last.
 */
function rowsOf(detail) {
  const { trace } = detail;
  const byParent = new Map(), ids = new Set(trace.spans.map((span) => span.id));
  const tops = [], lost = new Map();
  const add = (item, parent) => {
    if (!byParent.has(parent)) byParent.set(parent, []);
    byParent.get(parent).push(item);
  };
  for (const span of trace.spans) {
    const item = { kind: "span", span, of: trace };
    if (span.parent && ids.has(span.parent)) add(item, span.parent);
    else if (!span.parent) tops.push(item);
    else if (span.parent === detail.virtual_parent) tops.push({ ...item, isVirtual: true });
    else lost.set(span.parent, [...(lost.get(span.parent) ?? []), item]);
  }
  const missing = detail.missing ?? [];
  const missingIds = new Set(missing.map((one) => one.id));
  for (const one of missing) {
    const item = { kind: "missing", missing: one };
    if (one.parent && (ids.has(one.parent) || missingIds.has(one.parent))) add(item, one.parent);
    else tops.push(item);
  }
  for (const [parent, items] of lost) {
    if (missingIds.has(parent)) { items.forEach((item) => add(item, parent)); continue; }
    tops.push({ kind: "gap", text: `parent ${parent} was not captured`, id: parent });
    items.forEach((item) => add(item, parent));
  }
  markHops(detail, add);
  const rows = [], seen = new Set();
  const walk = (items, depth) => {
    // By hand, since a trace may be deeper than the stack.
    const open = items.map((item) => [item, depth]).reverse();
    while (open.length > 0) {
      const [item, at] = open.pop();
      const key = item.span ?? item;
      if (seen.has(key)) continue;
      seen.add(key);
      const id = item.span?.id ?? item.missing?.id ?? item.id;
      const below = id ? byParent.get(id) ?? [] : [];
      rows.push({ ...item, id, depth: at, below: below.length });
      for (let next = below.length - 1; next >= 0; next -= 1) open.push([below[next], at + 1]);
    }
  };
  walk(tops, 0);
  for (const span of trace.spans) if (!seen.has(span)) walk([{ kind: "span", span, of: trace, isCycle: true }], 0);
  for (const apart of detail.apart ?? []) {
    rows.push({ kind: "apart", apart, depth: 0, below: 0 });
    const inner = rowsOf({ trace: apart.trace }).filter((row) => row.kind === "span");
    rows.push(...inner.map((row) => ({ ...row, depth: row.depth + 1, isApart: !apart.linked })));
  }
  return rows;
}

/** Marks each hop that a failure names below the span that calls: the first one of the caller's clients that nobody answers. */
function markHops(detail, add) {
  const hops = new Map();
  for (const failure of unfolded(detail.failures ?? [])) {
    const hop = failure.hop && `${failure.hop.caller} ${failure.hop.callee}`;
    if (hop && !hops.has(hop)) hops.set(hop, failure);
  }
  const answered = new Set(detail.trace.spans.map((span) => span.parent));
  for (const failure of hops.values()) {
    const { caller, callee } = failure.hop;
    const isNamed = (span) => span.id === failure.span;
    const calls = detail.trace.spans.filter((span) => span.service === caller && span.meta["span.kind"] === "client");
    const call = detail.trace.spans.find((span) => isNamed(span) && span.service === caller)
      ?? calls.find((span) => !answered.has(span.id)) ?? calls.at(-1);
    const parent = call?.id ?? detail.virtual_parent;
    if (parent) add({ kind: "hop", text: `broken hop: ${caller} → ${callee}`, rule: failure.rule }, parent);
  }
}

/** Failures and what they explain. */
function unfolded(failures, depth = 0) {
  return failures.flatMap((failure) => [{ ...failure, depth }, ...unfolded(failure.symptoms ?? [], depth + 1)]);
}
