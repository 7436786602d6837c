// The route, the stations and the car, drawn as SVG from coordinates alone: no tiles, no third party.

import { number } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const EARTH_M_PER_DEGREE = 111320;
const MARGIN = 46;
const SMALLEST_M = 400;

function shape(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

/** Metres that make a round scale bar of at most `most`. */
function roundScale(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((step) => step * power).find((step) => step <= most);
}

/** Draw into `svg`; degrees WGS 84. Equirectangular is exact enough for a commune. */
export function draw(svg, track, stations, position) {
  const width = svg.clientWidth || 600;
  const height = svg.clientHeight || 300;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const all = [...track, ...stations, ...(position ? [position] : [])];
  if (!all.length) return svg.replaceChildren();
  const north = all.map((point) => point.latitude);
  const east = all.map((point) => point.longitude);
  const middle = [(Math.min(...north) + Math.max(...north)) / 2, (Math.min(...east) + Math.max(...east)) / 2];
  const eastM = EARTH_M_PER_DEGREE * Math.cos((middle[0] * Math.PI) / 180);
  const spanX = Math.max(SMALLEST_M, (Math.max(...east) - Math.min(...east)) * eastM);
  const spanY = Math.max(SMALLEST_M, (Math.max(...north) - Math.min(...north)) * EARTH_M_PER_DEGREE);
  const perM = Math.min((width - 2 * MARGIN) / spanX, (height - 2 * MARGIN) / spanY);
  const place = (point) => [
    width / 2 + (point.longitude - middle[1]) * eastM * perM,
    height / 2 - (point.latitude - middle[0]) * EARTH_M_PER_DEGREE * perM,
  ];
  const nodes = [];
  if (track.length > 1) {
    const points = track.map((point) => place(point).map((value) => value.toFixed(1)).join(",")).join(" ");
    nodes.push(shape("polyline", { class: "trace", points }));
  }
  for (const station of stations) {
    const [x, y] = place(station);
    const right = x > width / 2;
    nodes.push(shape("circle", { class: "station", cx: x, cy: y, r: 6 }));
    nodes.push(shape("text", { x: right ? x - 12 : x + 12, y: y + 4, "text-anchor": right ? "end" : "start" }, station.name));
  }
  if (position) {
    const [x, y] = place(position);
    nodes.push(shape("circle", { class: "here", cx: x, cy: y, r: 9 }));
  }
  const metres = roundScale(((width - 2 * MARGIN) * 0.3) / perM);
  const label = metres >= 1000 ? `${number(metres / 1000)} km` : `${number(metres)} m`;
  nodes.push(shape("line", { class: "scale", x1: 14, y1: height - 14, x2: 14 + metres * perM, y2: height - 14 }));
  nodes.push(shape("text", { class: "scale-text", x: 14, y: height - 20 }, label));
  svg.replaceChildren(...nodes);
}
