// Texts and numbers for people.

/** Characters that would be invisible, or turn what follows around, each as something to see. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g;

function visible(text) {
  return String(text).replace(HIDDEN, (letter) => {
    const code = letter.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
  });
}

function shown(text, most) {
  const whole = visible(text);
  return whole.length > most ? whole.slice(0, most) + "…" : whole;
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

function time(nanos) {
  const size = Math.abs(nanos);
  if (size < 1e3) return `${nanos} ns`;
  if (size < 1e6) return `${(nanos / 1e3).toFixed(1)} µs`;
  if (size < 1e9) return `${(nanos / 1e6).toFixed(size < 1e7 ? 2 : 1)} ms`;
  return `${(nanos / 1e9).toFixed(2)} s`;
}

const VERDICTS = ["running", "fail", "inconclusive", "pass", "skipped"];
const SIGNS = { running: "…", fail: "✗", inconclusive: "?", pass: "✓", skipped: "–" };

/** A verdict by its sign, its word and its colour. */
const badge = (verdict) => el("span", { class: `badge ${verdict}` }, `${SIGNS[verdict] ?? "·"} ${verdict}`);

/** The numbers of the colours that services have, by name: of the name itself, so that another run shows it alike where it can. */
const COLOURS = 10;
const colours = new Map();

function assignColours(names) {
  const taken = new Set();
  for (const name of [...names].sort()) {
    if (colours.has(name)) { taken.add(colours.get(name)); continue; }
    let number = 0;
    for (const letter of name) number = (number * 31 + letter.codePointAt(0)) >>> 0;
    number %= COLOURS;
    for (let tries = 0; tries < COLOURS && taken.has(number); tries += 1) number = (number + 1) % COLOURS;
    if (taken.size >= COLOURS) taken.clear();
    taken.add(number);
    colours.set(name, number);
  }
}

const colour = (service) => `service s${colours.get(service) ?? 0}`;
const serviceName = (service) => el("b", { class: colour(service) }, own(service, 60));
