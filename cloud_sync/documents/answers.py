"""What a driver reads for each word that a box answers with: what happened, and what to do, in French and English.

The words are those of ``Answer.reason``. ``docs/refusals.md`` is this table with the test of each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """One answer in both languages."""

    french: str
    english: str


ANSWERS: Final[dict[str, Words]] = {
    # Yes.
    "opening": Words("La porte s'ouvre. Bonne route.", "The door opens. Have a good drive."),
    "opened": Words("La porte a été ouverte. Bonne route.", "The door was opened. Have a good drive."),
    "reopening": Words(
        "La porte s'ouvre, pour le câble. Refermez à clé en partant.",
        "The door opens, for the cable. Lock it when you leave.",
    ),
    "reopened": Words(
        "La porte a été ouverte, pour le câble. Refermez à clé en partant.",
        "The door was opened, for the cable. Lock it when you leave.",
    ),
    "locking": Words("La porte se ferme à clé.", "The door locks."),
    "locked": Words("La voiture est fermée à clé. Votre location continue.", "The car is locked. Your rental goes on."),
    "shut_the_door": Words(
        "Fermez les portes : la voiture se verrouille à la dernière.",
        "Shut the doors: the car locks with the last one.",
    ),
    "finished": Words(
        "La voiture est fermée à clé et la location est terminée. Branchez-la.",
        "The car is locked and the rental is over. Plug it in.",
    ),
    "capturing": Words(
        "La voiture attend une carte : tenez-la contre le pare-brise, dans les deux minutes.",
        "The car waits for a card: hold it to the windscreen, within two minutes.",
    ),
    "captured": Words("Le numéro de la carte est enregistré.", "The card's number is taken."),
    # Nobody knows.
    "no_answer": Words(
        "Pas de réponse à temps. La serrure a peut-être bougé : regardez, puis réessayez.",
        "No answer in time. The lock may have moved: look, then try again.",
    ),
    "interrupted": Words(
        "Le boîtier a redémarré entre-temps. La serrure a peut-être bougé : regardez, puis réessayez.",
        "The box restarted meanwhile. The lock may have moved: look, then try again.",
    ),
    # Not here, not you.
    "wrong_vehicle": Words(
        "Cette réservation est pour une autre voiture. Regardez son nom dans l'application.",
        "This booking is for another car. Look for its name in the app.",
    ),
    "not_your_booking": Words(
        "Ce téléphone n'est pas celui de la réservation. Utilisez le vôtre, ou appelez la mairie.",
        "This is not the phone of that booking. Use your own, or call the town hall.",
    ),
    "unknown": Words(
        "Pas de réservation connue ici. Réservez, ou ouvrez l'application là où il y a du réseau, puis réessayez.",
        "No booking known here. Book, or open the app where there is network, then try again.",
    ),
    "pass_invalid": Words(
        "Ce laissez-passer n'est pas valable. Ouvrez l'application là où il y a du réseau pour en avoir un autre.",
        "This pass is not valid. Open the app where there is network to get another one.",
    ),
    "key_set_wanted": Words(
        "Voiture et téléphone ne connaissent pas la même signature de la commune. Trouvez du réseau, puis réessayez.",
        "Car and phone do not know the same signature of the commune. Find network, then try again.",
    ),
    "revoked": Words(
        "Ce téléphone ou ce laissez-passer a été bloqué. Appelez la mairie.",
        "This phone or pass has been blocked. Call the town hall.",
    ),
    "cancelled": Words(
        "Cette réservation a été annulée. Réservez de nouveau.",
        "This booking was cancelled. Book again.",
    ),
    "superseded": Words(
        "La voiture est réservée pour quelqu'un d'autre maintenant. Ouvrez l'application là où il y a du réseau.",
        "The car is booked for somebody else now. Open the app where there is network.",
    ),
    "no_right": Words(
        "Votre réservation n'ouvre pas la porte. Appelez la mairie.",
        "Your booking does not open the door. Call the town hall.",
    ),
    "rental_over": Words(
        "Cette location est terminée. Réservez de nouveau pour repartir.",
        "This rental is over. Book again to drive on.",
    ),
    # Not now.
    "too_early": Words(
        "Trop tôt : votre réservation n'a pas commencé. Revenez à l'heure prévue.",
        "Too early: your booking has not begun. Come back at its time.",
    ),
    "too_late": Words(
        "Trop tard : votre réservation est finie. Réservez de nouveau.",
        "Too late: your booking is over. Book again.",
    ),
    "other_window": Words(
        "La réservation d'avant n'est pas finie. Attendez l'heure de la vôtre.",
        "The booking before yours is not over. Wait for the time of yours.",
    ),
    "in_use": Words(
        "La voiture est en cours de location. Attendez son retour, ou appelez la mairie.",
        "The car is being used. Wait for it to come back, or call the town hall.",
    ),
    "list_too_old": Words(
        "La voiture n'a plus de nouvelles de la commune. Ouvrez l'application là où il y a du réseau, puis réessayez.",
        "The car has had no news from the commune for too long. Open the app where there is network, then try again.",
    ),
    "clock_unproven": Words(
        "La voiture n'est pas sûre de l'heure. Il faut du réseau près d'elle : réessayez, ou appelez la mairie.",
        "The car is not sure of the time. It takes network beside it: try again, or call the town hall.",
    ),
    "out_of_order": Words(
        "La voiture est hors service. Appelez la mairie.",
        "The car is out of order. Call the town hall.",
    ),
    "moving": Words("La voiture roule. Arrêtez-vous, puis réessayez.", "The car is moving. Stop, then try again."),
    "busy": Words(
        "La porte ou le boîtier est occupé. Réessayez dans quelques secondes.",
        "The door or the box is busy. Try again in some seconds.",
    ),
    "door_unknown": Words(
        "La voiture ne sait pas si ses portes sont fermées. Réessayez dans quelques secondes, ou appelez la mairie.",
        "The car can't tell whether its doors are shut. Try again in some seconds, or call the town hall.",
    ),
    "not_open": Words("La voiture n'est pas louée : rien à terminer.", "The car is not rented: nothing to end."),
    "not_confirmed": Words(
        "La serrure n'a pas confirmé. Regardez la porte, puis réessayez ou appelez la mairie.",
        "The lock has not confirmed. Look at the door, then try again or call the town hall.",
    ),
    "door_open": Words(
        "Une porte est restée ouverte : la voiture n'est pas fermée à clé. Fermez-la et réessayez.",
        "A door stayed open: the car is not locked. Shut it and try again.",
    ),
    "not_moved": Words("La serrure n'a pas bougé. Réessayez.", "The lock has not moved. Try again."),
    # From the commune, for the driver.
    "command_too_old": Words(
        "L'ordre est arrivé trop tard et n'a rien fait. Réessayez.",
        "The command came too late and did nothing. Try again.",
    ),
    "command_replayed": Words(
        "Cet ordre avait déjà été donné. Il n'a rien fait cette fois-ci.",
        "This command had been given before. It did nothing this time.",
    ),
    # What the phone brings.
    "version_too_low": Words(
        "La voiture a déjà des nouvelles plus récentes. Rien à faire.",
        "The car has newer news already. Nothing to do.",
    ),
    # The conversation.
    "not_understood": Words(
        "La voiture n'a pas compris. Réessayez ; est-ce bien la bonne voiture ?",
        "The car did not understand. Try again; is it the right car?",
    ),
    "old_counter": Words(
        "Ce message avait déjà été envoyé. Réessayez.",
        "This message had been sent before. Try again.",
    ),
    "hello_over": Words("Trop de temps a passé. Réessayez.", "Too much time has passed. Try again."),
    "too_much": Words("Trop de données en une fois. Réessayez plus tard.", "Too much data at once. Try again later."),
    # A card.
    "staff_only": Words(
        "Seuls les agents et les techniciens peuvent faire cela. Appelez la mairie.",
        "Only staff and technicians can do this. Call the town hall.",
    ),
    "uid_cards_off": Words(
        "La voiture n'accepte pas ces cartes. Appelez la mairie.",
        "The car does not accept such cards. Call the town hall.",
    ),
    "card_not_proven": Words(
        "La carte n'a pas pu prouver qu'elle est la vraie. Appelez la mairie.",
        "The card could not prove that it is the real one. Call the town hall.",
    ),
}
"""Every word that a driver can be answered with."""

ON_THE_PHONE: Final[dict[str, Words]] = {
    "not_heard": Words(
        "La voiture n'est pas à portée. Approchez-vous et réessayez.",
        "The car is not within reach. Go nearer and try again.",
    ),
    "not_reached": Words(
        "La connexion avec la voiture a été perdue. La serrure a peut-être bougé : regardez, puis réessayez.",
        "The connection to the car was lost. The lock may have moved: look, then try again.",
    ),
    "no_bluetooth": Words(
        "Le Bluetooth de cet appareil est éteint ou absent. Allumez-le, puis réessayez.",
        "This device's Bluetooth is off or missing. Switch it on, then try again.",
    ),
}
"""What a phone says by itself: no box sends these."""

DOORS: Final[dict[str, Words]] = {
    "locked": Words("La voiture est fermée à clé.", "The car is locked."),
    "unlocked": Words("La voiture n'est pas fermée à clé.", "The car is not locked."),
    "open": Words("Une porte est ouverte.", "A door is open."),
    "unknown": Words("La voiture ne sait pas comment sont ses portes.", "The car can't tell how its doors are."),
}
"""How the car stands, where nothing else is to be said: ``Answer.door``."""

ELSE: Final = Words(
    "La voiture n'a pas accepté ({reason}). Réessayez, ou appelez la mairie.",
    "The car did not accept it ({reason}). Try again, or call the town hall.",
)
"""For a word of a newer box."""


def words(reason: str) -> Words:
    """Return what a driver reads for a reason."""
    known = ANSWERS.get(reason) or ON_THE_PHONE.get(reason)
    return known or Words(ELSE.french.format(reason=reason), ELSE.english.format(reason=reason))
