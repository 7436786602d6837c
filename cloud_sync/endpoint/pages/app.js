// The page: asks the endpoint every second and shows what it says. All text goes in as text, never as HTML.

import { draw } from "./map.js";
import { age, colon, dayOf, duration, language, number, timeOf, word } from "./words.js";

const API = "/api/v1";
const EVERY_MS = 1000;
const SILENT_S = 180; // three statuses missed
const TIMELINE_ROWS = 200;
const KEY_EVENTS = new Set(["trip_start", "trip_end", "rental_end"]);
const BAD_EVENTS = new Set(["access_denied", "actuation_failed", "alert", "comms_lost", "document_refused", "store_replaced"]);

const at = (id) => document.getElementById(id);
const seen = { car: null, after: 0, events: [], stations: [] };

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

async function get(path) {
  const answer = await fetch(API + path, { signal: AbortSignal.timeout(5000) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

const stationName = (id) => seen.stations.find((station) => station.id === id)?.name ?? id ?? word("elsewhere");

function showCars(vehicles) {
  if (!vehicles.some((vehicle) => vehicle.id === seen.car)) seen.car = vehicles[0]?.id ?? null;
  at("cars").replaceChildren(
    ...(vehicles.length < 2 ? [] : vehicles).map((vehicle) => {
      const button = make("button", vehicle.id);
      button.setAttribute("aria-pressed", String(vehicle.id === seen.car));
      button.addEventListener("click", () => { seen.car = vehicle.id; });
      return button;
    }),
  );
}

function showVehicle(vehicle, nowS) {
  at("car-name").textContent = vehicle.id;
  at("state").textContent = word(vehicle.state);
  at("state").className = vehicle.state.startsWith("non_") ? "badge warn" : "badge";
  at("door-text").textContent = word(vehicle.door);
  at("soc").textContent = vehicle.soc_pct === null ? word("unknown") : `${number(vehicle.soc_pct)} %`;
  at("gauge").value = vehicle.soc_pct ?? 0;
  at("range").textContent = vehicle.range_m === null ? word("unknown") : `${number(vehicle.range_m / 1000)} km`;
  at("charging").textContent = word(`charging_${vehicle.charging}`);
  at("ami").setAttribute("class", `${vehicle.door} ${vehicle.charging === "charging" ? "charging" : ""}`);
  at("faults").hidden = !vehicle.faults.length;
  at("faults").textContent = word("faults") + vehicle.faults.join(", ");
  const contact = at("contact");
  if (vehicle.last_seen_s === null) {
    contact.textContent = word("never");
    contact.className = "contact";
    return;
  }
  const silence = nowS - vehicle.last_seen_s;
  const lost = !vehicle.online || silence > SILENT_S;
  contact.textContent = word(lost ? "silent" : "heard", age(silence));
  contact.className = lost ? "contact lost" : "contact good";
}

function showNow(trip, nowS) {
  if (!trip) return at("now").replaceChildren(make("p", word("no_trip"), "quiet"));
  const parts = [make("p", word("trip_running", trip.trip))];
  if (trip.started_s !== null) {
    parts.push(make("p", duration(nowS - trip.started_s), "big"), make("p", word("since", timeOf(trip.started_s)), "quiet"));
  }
  if (trip.from_station) parts.push(make("p", word("from", stationName(trip.from_station)), "quiet"));
  at("now").replaceChildren(...parts);
}

function tripRow(trip) {
  const row = make("li");
  const line = make("div", undefined, "line");
  const way = `${stationName(trip.from_station)} → ${stationName(trip.to_station)}`;
  line.append(make("span", way), make("span", `${number(trip.distance_m / 1000, 1)} km`));
  const facts = [dayOf(trip.started_s ?? trip.ended_s), duration(trip.duration_s), word(`source_${trip.distance_source}`)];
  if (trip.soc_start_pct !== null && trip.soc_end_pct !== null) {
    facts.push(`${number(trip.soc_start_pct)} → ${number(trip.soc_end_pct)} %`);
  }
  row.append(line, make("small", [...facts, ...trip.flags].join(" · ")));
  return row;
}

function eventText(event) {
  const { fields, kind } = event;
  if (kind === "fault") return `${word(fields.active ? "fault" : "mended")}${colon}${[fields.part, fields.detail].filter(Boolean).join(", ")}`;
  const details = {
    trip_start: () => fields.station && stationName(fields.station),
    trip_end: () => `${number(fields.distance_m / 1000, 1)} km, ${duration(fields.duration_s)}`,
    rental_end: () => duration(fields.billable_s),
    access_denied: () => fields.reason,
    actuation_failed: () => fields.reason,
    alert: () => word(fields.kind),
    parked: () => fields.station && stationName(fields.station),
    document_refused: () => fields.reason,
    supply: () => `${number(fields.voltage_v, 1)} V`,
  }[kind]?.();
  return details ? `${word(kind)}${colon}${details}` : word(kind);
}

function eventRow(event) {
  const row = make("li", undefined, KEY_EVENTS.has(event.kind) ? "key" : BAD_EVENTS.has(event.kind) ? "bad" : "");
  const text = make("span", eventText(event));
  // Before the box knows the time its stamps are a lower bound: no hour is better than a wrong one.
  const timed = !["unset", "restored"].includes(event.clock_quality);
  const late = event.received_s - event.at_s;
  if (timed && late > 10) text.append(" ", make("small", `(+${age(late)})`));
  row.append(make("time", timed ? timeOf(event.at_s) : "––:––:––"), text);
  return row;
}

async function showEvents() {
  // The first time only the newest rows; afterwards every row, page by page.
  const page = await get(`/events?after=${seen.after}&limit=500&newest=${seen.after === 0}`);
  seen.events.push(...page.events);
  seen.after = page.next;
  seen.events = seen.events.slice(-20 * TIMELINE_ROWS);
  // A piece of a route is for the map; here it would push out what happened.
  const mine = seen.events.filter((event) => event.vehicle === seen.car && event.kind !== "track").slice(-TIMELINE_ROWS).reverse();
  at("timeline").replaceChildren(...(mine.length ? mine.map(eventRow) : [make("li", word("no_events"), "quiet")]));
}

async function refresh() {
  const [vehicles, status] = await Promise.all([get("/vehicles"), get("/status")]);
  showCars(vehicles);
  const vehicle = vehicles.find((candidate) => candidate.id === seen.car);
  const notice = vehicle ? (status.broker_connected ? "" : word("no_broker")) : word("no_car");
  at("notice").textContent = notice;
  at("notice").hidden = !notice;
  if (!vehicle) return;
  const [trips, track] = await Promise.all([get(`/vehicles/${vehicle.id}/trips?limit=20`), get(`/vehicles/${vehicle.id}/track`)]);
  showVehicle(vehicle, status.now_s);
  // Only the newest trip can be running: an older one without an end belongs to a database that the box has lost.
  showNow(trips[0] && trips[0].ended_s === null ? trips[0] : null, status.now_s);
  const done = trips.filter((trip) => trip.ended_s !== null);
  at("trips").replaceChildren(...(done.length ? done.map(tripRow) : [make("li", word("no_trips"), "quiet")]));
  const points = track.points;
  draw(at("map"), points, seen.stations, vehicle.position ?? points.at(-1) ?? null);
  at("map-note").textContent = points.length ? word("trace", points.length) : word("no_trace");
  await showEvents();
}

async function loop() {
  if (!document.hidden) {
    try {
      if (!seen.stations.length) seen.stations = await get("/stations");
      await refresh();
    } catch {
      at("notice").textContent = word("no_endpoint");
      at("notice").hidden = false;
    }
  }
  setTimeout(loop, EVERY_MS);
}

document.documentElement.lang = language;
const other = at("language");
other.textContent = word("other");
other.lang = language === "fr" ? "en" : "fr";
other.href = language === "fr" ? "?lang=en" : "?lang=fr";
for (const node of document.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
loop();
