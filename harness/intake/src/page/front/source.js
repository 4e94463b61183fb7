// Where the page's data come from: from the file itself, or from the intake that serves the page. Both give an index of all traces, and
// the details of one.

/** The compressed parts of the file, by their ids; the page itself is drawn over them. */
const packed = new Map([...document.querySelectorAll("script[type='application/octet-stream']")].map((one) => [one.id, one]));

async function inflated(id) {
  const binary = atob(packed.get(id).textContent);
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < binary.length; at += 1) bytes[at] = binary.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"));
  return new Response(stream).text();
}

const file = {
  isLive: false,
  blocks: new Map(),
  async index() { return JSON.parse(await inflated("index")); },
  /** The traces of a block, each as a line of JSON. Few are kept, since a large run has more than memory should hold. */
  async lines(block) {
    if (!this.blocks.has(block)) {
      if (this.blocks.size >= 8) this.blocks.delete(this.blocks.keys().next().value);
      this.blocks.set(block, inflated(`block-${block}`).then((text) => text.trimEnd().split("\n")));
    }
    return this.blocks.get(block);
  },
  async detail(row) {
    if (!row.place) return null;
    return JSON.parse((await this.lines(row.place[0]))[row.place[1]]);
  },
};

const intake = {
  isLive: true,
  async ask(path) {
    const response = await fetch(`/_intake/${path}`, { signal: AbortSignal.timeout(10_000) });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error ?? `the intake answers ${response.status}`);
    return answer;
  },
  async index() { return this.ask("page"); },
  async detail(row) { return this.ask(`page/${row.id}`); },
  /** Calls back when something arrived, a few times a second at most. */
  follow(changed, state) {
    let soon = 0;
    const events = new EventSource("/_intake/events");
    events.addEventListener("attempt", () => { soon ||= setTimeout(() => { soon = 0; changed(); }, 300); });
    events.addEventListener("open", () => state(true));
    events.addEventListener("error", () => state(false));
  },
};

const source = packed.has("index") ? file : intake;
