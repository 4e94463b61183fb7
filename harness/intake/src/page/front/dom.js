// The page: one module in several files, put together by page.rs. Texts of spans are whatever somebody sent, so every text is set as
// text, never as markup, and the policy of the page has the browser refuse anything else.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element. Attributes whose value is null or false are left out; functions become listeners. */
function el(tag, attributes, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else if (name === "style") Object.entries(value).forEach(([key, to]) => node.style.setProperty(key, to));
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const byId = (id) => document.getElementById(id);

/** A link within the page. */
const link = (text, hash, attributes) => el("a", { href: hash, ...attributes }, text);

/** A text of somebody's in its own direction. */
const own = (text, most = 300) => el("bdi", {}, shown(text, most));

/** A long text: its beginning, and the rest on request. */
function longText(text, most = 400) {
  const whole = visible(text);
  if (whole.length <= most) return el("bdi", {}, whole);
  const cut = el("bdi", {}, whole.slice(0, most) + "…");
  const more = el("button", {
    type: "button", class: "more",
    click: () => { cut.textContent = whole; more.remove(); },
  }, `show all ${whole.length.toLocaleString("en")} characters`);
  return el("span", { class: "long" }, cut, " ", more);
}

/** A table of keys and values. */
function pairs(rows, name) {
  return el("table", { class: "pairs", "aria-label": name }, el("tbody", {}, rows.map(([key, value]) =>
    el("tr", {}, el("th", { scope: "row" }, own(key)), el("td", {}, value instanceof Node ? value : longText(String(value)))))));
}

/** A part that opens and closes. */
const part = (title, open, ...content) =>
  el("details", { class: "part", open }, el("summary", {}, title), ...content);
