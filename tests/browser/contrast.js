// Returns the texts in sight whose contrast is below AA: 4.5, and 3 for large ones. Colours are those that the browser computed.
const parse = (text) => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return [r, g, b, a]; };
const over = ([r, g, b, a], under) => [r, g, b].map((part, at) => part * a + under[at] * (1 - a)).concat(1);
const light = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => { const [a, b] = [light(one), light(other)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
const behind = (node) => {
  const layers = [];
  for (let at = node; at; at = at.parentElement) {
    const style = getComputedStyle(at);
    layers.push(parse(style.backgroundColor));
    // Stripes: their first colour is the one that differs from the page.
    if (style.backgroundImage.startsWith("repeating")) layers.push(parse(style.backgroundImage.match(/rgba?\([^)]*\)/)[0]));
  }
  return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255, 1]);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const low = new Map();
let looked = 0;
while (walker.nextNode()) {
  const text = walker.currentNode, node = text.parentElement;
  if (!text.data.trim() || !node.checkVisibility() || node.closest("script,style,option,.unseen")) continue;
  const style = getComputedStyle(node);
  const isSvg = node.namespaceURI.endsWith("svg");
  const frame = isSvg && node.closest("g.node")?.querySelector("rect");
  const back = frame ? parse(getComputedStyle(frame).fill) : behind(node);
  const ratio = contrast(over(parse(isSvg ? style.fill : style.color), back), back);
  const size = parseFloat(style.fontSize), isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  looked += 1;
  if (ratio < (isLarge ? 3 : 4.5)) low.set(`${node.tagName}.${node.getAttribute("class")} ${ratio.toFixed(2)}`, text.data.trim().slice(0, 40));
}
// Bars carry meaning without text: 3 against what is behind them.
for (const bar of document.querySelectorAll(".bar:not(.is-apart *)")) {
  const ratio = contrast(parse(getComputedStyle(bar).backgroundColor), behind(bar.parentElement));
  if (ratio < 3) low.set(`${bar.className} ${ratio.toFixed(2)}`, "a bar");
}
return looked < 3 ? ["too few texts are in sight"] : [...low].map(([what, text]) => `${what}: ${text}`);
