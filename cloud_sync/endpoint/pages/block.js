// The page on which whoever lost a card blocks it: its number, and the code of the slip that came with it.

const WORDS = {
  fr: {
    other: "English", title: "Bloquer une carte", number: "Numéro de la carte",
    why: "Carte perdue ou volée ? Bloquez-la ici : elle n’ouvrira plus aucune voiture.",
    code: "Code à huit chiffres, sur le papier remis avec la carte", do: "Bloquer",
    done: "La carte est bloquée. Retrouvée ? Rapportez-la à la mairie.",
    late: (cars) => `La carte est bloquée, mais pas encore à bord (sans réseau en ce moment) : ${cars}. Prévenez aussi la mairie.`,
    wrong: "Ce code n’est pas celui de cette carte. Rien n’a changé.",
    unknown: "Aucune carte ne porte ce numéro. Rien n’a changé.",
    often: "Trop de codes faux pour cette carte : attendez une heure, ou appelez la mairie.",
    form: "Le numéro est celui de la carte, le code a huit chiffres. Rien n’a changé.",
    failed: "Le serveur ne répond pas. La carte est peut-être bloquée : réessayez, ou appelez la mairie.",
  },
  en: {
    other: "Français", title: "Block a card", number: "Number of the card",
    why: "Card lost or stolen? Block it here: it will open no car any more.",
    code: "Code of eight digits, on the paper that came with the card", do: "Block it",
    done: "The card is blocked. Found again? Bring it to the town hall.",
    late: (cars) => `The card is blocked, but not yet on board (no network now): ${cars}. Tell the town hall, too.`,
    wrong: "This code does not belong to this card. Nothing was changed.",
    unknown: "There is no card of this number. Nothing was changed.",
    often: "Too many wrong codes for this card: wait an hour, or call the town hall.",
    form: "The number is the one on the card, the code has eight digits. Nothing was changed.",
    failed: "The server does not answer. The card may be blocked all the same: try again, or call the town hall.",
  },
};

const language = new URLSearchParams(location.search).get("lang") === "en" ? "en" : "fr";
const words = WORDS[language];
const answer = document.getElementById("answer");

function show() {
  document.documentElement.lang = language;
  document.title = words.title;
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = words[element.dataset.word];
  const other = document.getElementById("language");
  other.textContent = words.other;
  other.lang = language === "fr" ? "en" : "fr";
  other.href = `?lang=${other.lang}`;
}

async function block(number, code) {
  const response = await fetch(`/api/v1/cards/${number}/block`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ code }),
  });
  if (response.ok) {
    const late = (await response.json()).lists.filter((each) => !each.published).map((each) => each.vehicle);
    return late.length ? words.late(late.join(", ")) : words.done;
  }
  return { 403: words.wrong, 404: words.unknown, 422: words.form, 429: words.often }[response.status] ?? words.failed;
}

document.getElementById("block").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  answer.textContent = "…";
  try {
    answer.textContent = await block(document.getElementById("number").value, document.getElementById("code").value);
  } catch {
    answer.textContent = words.failed;
  }
  button.disabled = false;
});

show();
