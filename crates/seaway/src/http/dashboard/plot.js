// Bars by day, stacked by model. Everything is made as nodes with text, so nothing has to be escaped.

const SVG = "http://www.w3.org/2000/svg";
const MOST = 5;

const measures = {
  cost: { of: (one) => one.cost ?? 0, say: (value) => "$" + value.toFixed(value < 1 ? 4 : 2) },
  tokens: { of: ({ row }) => row.input + row.output + row.cache_read + row.cache_write, say: short },
  requests: { of: ({ row }) => row.requests, say: short },
};

export function short(value) {
  if (value >= 1e6) return (value / 1e6).toFixed(1) + " M";
  if (value >= 1e4) return (value / 1e3).toFixed(0) + " k";
  return String(Math.round(value));
}

function node(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** The days up to today, also those without a request. */
function daysBack(count) {
  const today = Date.now();
  return [...Array(count).keys()].map((back) => new Date(today - (count - 1 - back) * 86_400_000).toISOString().slice(0, 10));
}

/** The models by their sums, the small ones as one. */
function ranked(rows, measure) {
  const sums = new Map();
  for (const one of rows) sums.set(one.row.model, (sums.get(one.row.model) ?? 0) + measure.of(one));
  const names = [...sums.keys()].sort((a, b) => sums.get(b) - sums.get(a));
  const shown = names.slice(0, MOST);
  const name = (model) => (shown.includes(model) ? model : "others");
  const all = names.length > MOST ? [...shown, "others"] : shown;
  const total = (wanted) => names.filter((model) => name(model) === wanted).reduce((sum, model) => sum + sums.get(model), 0);
  return { all, name, total };
}

/** A round number that is not below. */
function top(value) {
  if (!value) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}

export function plot(place, legend, rows, days, kind) {
  const measure = measures[kind];
  const models = ranked(rows, measure);
  const columns = daysBack(days);
  const cells = new Map(columns.map((day) => [day, new Map()]));
  for (const one of rows) {
    const cell = cells.get(one.row.day);
    const model = models.name(one.row.model);
    cell?.set(model, (cell.get(model) ?? 0) + measure.of(one));
  }
  const sum = (cell) => [...cell.values()].reduce((all, value) => all + value, 0);
  const most = top(Math.max(...[...cells.values()].map(sum)));
  const [width, height, left, bottom, above] = [Math.max(place.clientWidth, 240), 220, 60, 22, 8];
  const high = (value) => (value / most) * (height - bottom - above);
  const step = (width - left) / columns.length;
  const picture = node("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${kind} by day and model` });
  for (const part of [0, 0.5, 1]) {
    const y = height - bottom - high(most * part);
    picture.append(node("line", { x1: left, x2: width, y1: y, y2: y }), node("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, measure.say(most * part)));
  }
  columns.forEach((day, index) => {
    const x = left + index * step;
    let y = height - bottom;
    models.all.forEach((model, rank) => {
      const value = cells.get(day).get(model);
      if (!value) return;
      const tall = Math.max(high(value), 1);
      y -= tall;
      const bar = node("rect", { x: x + step * 0.12, y, width: Math.max(step * 0.76, 1), height: Math.max(tall - 1, 1), rx: 1.5, class: `m${rank}` });
      bar.append(node("title", {}, `${day}  ${model}  ${measure.say(value)}`));
      picture.append(bar);
    });
    if (index % Math.ceil((columns.length * 56) / (width - left)) === 0) picture.append(node("text", { x: x + step / 2, y: height - 6, "text-anchor": "middle" }, day.slice(5)));
  });
  place.replaceChildren(picture);
  legend.replaceChildren(...models.all.map((model, rank) => {
    const entry = document.createElement("span");
    const key = document.createElement("span");
    key.className = `key m${rank}`;
    entry.append(key, `${model}  ${measure.say(models.total(model))}`);
    return entry;
  }));
  if (!models.all.length) legend.textContent = "Nothing was used in these days.";
}
