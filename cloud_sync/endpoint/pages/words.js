// Every word the page shows, in French and English, and how numbers and times are written.

const WORDS = {
  fr: {
    other: "English", battery: "Batterie", range: "Autonomie", charging: "Recharge", door: "Portes",
    now: "En ce moment", map: "Carte", trips: "Trajets terminés", timeline: "Journal",
    locked: "verrouillées", unlocked: "déverrouillées", open: "ouvertes", unknown: "inconnu",
    charging_charging: "en charge", charging_full: "pleine", charging_not_charging: "non", charging_unknown: "inconnu",
    available: "disponible", reserved: "réservée", stopped: "à l’arrêt", on_trip: "en trajet",
    non_operational: "hors service", non_contactable: "jamais vue",
    heard: (age) => `dernières nouvelles de la voiture il y a ${age}`, silent: (age) => `pas de contact depuis ${age}`,
    never: "la voiture n’a encore rien dit", no_endpoint: "Le serveur ne répond pas ; nouvel essai chaque seconde.",
    no_broker: "Le serveur n’est pas relié au relais MQTT : les nouvelles de la voiture attendent.",
    no_car: "Aucune voiture : ajoutez-en une avec « amibox-cloud box add ».",
    no_trip: "Aucun trajet en cours.", no_trips: "Aucun trajet terminé.", no_events: "Rien encore.",
    trip_running: (name) => `Trajet ${name} en cours`, since: (time) => `depuis ${time}`, from: (place) => `parti de ${place}`,
    no_trace: "Pas de tracé : il n’est gardé que si le conducteur l’a accepté.", trace: (n) => `Tracé du dernier trajet : ${n} points.`,
    source_odometer: "compteur", source_speed_integral: "vitesse", source_gnss: "GPS", source_none: "non mesurée",
    faults: "En panne : ", elsewhere: "hors station", ago_s: "s", ago_min: "min", ago_h: "h", ago_d: "j",
    booted: "Le boîtier a démarré", trip_start: "Accès accordé, trajet commencé", door_reopened: "Porte rouverte",
    end_requested: "Verrouillage demandé", trip_end: "Portes verrouillées, trajet terminé", rental_end: "Location terminée",
    access_denied: "Accès refusé", actuation_failed: "La serrure n’a pas obéi", charging_start: "Recharge commencée",
    charging_end: "Recharge finie", alert: "Alerte", fault: "Panne", list_accepted: "Réservations reçues",
    document_refused: "Document refusé", comms_lost: "Liaison perdue", comms_restored: "Liaison rétablie",
    supply: "Batterie 12 V", maintenance: "Hors service", maintenance_end: "Remise en service",
    store_replaced: "Base du boîtier remplacée", parked: "Stationnée", track: "Tracé reçu", dropped: "Détail effacé faute de place",
    mended: "Réparé",
  },
  en: {
    other: "Français", battery: "Battery", range: "Range", charging: "Charging", door: "Doors",
    now: "Right now", map: "Map", trips: "Finished trips", timeline: "Timeline",
    locked: "locked", unlocked: "unlocked", open: "open", unknown: "unknown",
    charging_charging: "charging", charging_full: "full", charging_not_charging: "no", charging_unknown: "unknown",
    available: "available", reserved: "reserved", stopped: "stopped", on_trip: "on a trip",
    non_operational: "out of service", non_contactable: "never seen",
    heard: (age) => `last heard from the car ${age} ago`, silent: (age) => `no contact for ${age}`,
    never: "the car has not said anything yet", no_endpoint: "The server doesn’t answer; trying again every second.",
    no_broker: "The server is not connected to the MQTT broker: the car’s news has to wait.",
    no_car: "No car yet: add one with “amibox-cloud box add”.",
    no_trip: "No trip under way.", no_trips: "No finished trip.", no_events: "Nothing yet.",
    trip_running: (name) => `Trip ${name} under way`, since: (time) => `since ${time}`, from: (place) => `from ${place}`,
    no_trace: "No trace: it is kept only if the driver agreed.", trace: (n) => `Trace of the last trip: ${n} points.`,
    source_odometer: "odometer", source_speed_integral: "speed", source_gnss: "GPS", source_none: "not measured",
    faults: "Out of order: ", elsewhere: "not at a station", ago_s: "s", ago_min: "min", ago_h: "h", ago_d: "d",
    booted: "The box started", trip_start: "Access granted, trip begun", door_reopened: "Door opened again",
    end_requested: "Lock asked for", trip_end: "Doors locked, trip ended", rental_end: "Rental ended",
    access_denied: "Access denied", actuation_failed: "The lock did not obey", charging_start: "Charging began",
    charging_end: "Charging ended", alert: "Alert", fault: "Fault", list_accepted: "Bookings received",
    document_refused: "Document refused", comms_lost: "Link lost", comms_restored: "Link restored",
    supply: "12 V battery", maintenance: "Out of service", maintenance_end: "Back in service",
    store_replaced: "The box’s database was replaced", parked: "Parked", track: "Trace received", dropped: "Detail dropped for room",
    mended: "Mended",
  },
};

export const language = new URLSearchParams(location.search).get("lang") === "en" ? "en" : "fr";

/** The text for a key; a key without one shows itself, so that a newer box's words are seen. */
export function word(key, ...values) {
  const found = Object.hasOwn(WORDS[language], key) ? WORDS[language][key] : key.replaceAll("_", " ");
  return typeof found === "function" ? found(...values) : found;
}

/** "A : b" in French, "A: b" in English. */
export const colon = language === "fr" ? "\u00a0: " : ": ";

const locale = language === "fr" ? "fr-FR" : "en-GB";
const clock = new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

export const timeOf = (unix) => clock.format(new Date(unix * 1000));
export const dayOf = (unix) => day.format(new Date(unix * 1000));
export const number = (value, digits = 0) =>
  value.toLocaleString(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });

/** An age in its largest fitting unit. */
export function age(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 120) return `${whole} ${word("ago_s")}`;
  if (whole < 7200) return `${Math.round(whole / 60)} ${word("ago_min")}`;
  if (whole < 172800) return `${Math.round(whole / 3600)} ${word("ago_h")}`;
  return `${Math.round(whole / 86400)} ${word("ago_d")}`;
}

/** A duration as 1:02:03 or 2:03. */
export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (value) => String(value).padStart(2, "0");
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}
