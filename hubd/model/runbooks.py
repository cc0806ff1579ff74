"""What a person does at a terminal whose vendor's protocol has no word for it: steps as data, by kind of model.

`python -m hubd.model.runbooks` prints the page of the manual (docs/operating/terminal-runbooks.md).
"""

from __future__ import annotations

import re

from hubd.model.problem import LANGUAGES, Text
from hubd.model.terminal_life import Needs

DEFAULT_PASSWORD = "99999"
_ANDROID = re.compile(r"a(30|35|50|60|77|80|910|920|930)(s|pro|max)?", re.IGNORECASE)
"""PAX models that run Android; their merchant menu is in the app Service."""

_MENU = {
    False: Text("Press Menu.", "Appuyez sur Menu.", "Druk op Menu."),
    True: Text("Open the app Service.", "Ouvrez l'app Service.", "Open de app Service."),
}
_MERCHANT = Text("Choose Merchant menu.", "Choisissez Menu Commerçant.", "Kies Handelaarsmenu.")
_PASSWORD = Text(
    f"Type the menu password ({DEFAULT_PASSWORD} if nobody has changed it).",
    f"Tapez le mot de passe du menu ({DEFAULT_PASSWORD} si personne ne l'a changé).",
    f"Toets het menuwachtwoord in ({DEFAULT_PASSWORD} als niemand het heeft gewijzigd).",
)
_FUNCTIONS = Text("Choose Functions.", "Choisissez Fonctions.", "Kies Functies.")
_ACTS = {
    Needs.PARAMETER_SESSION: (
        _FUNCTIONS,
        Text("Choose C-TAP.", "Choisissez C-TAP.", "Kies C-TAP."),
        Text(
            "Choose the provider and wait for the end; do this for every provider.",
            "Choisissez le prestataire et attendez la fin ; faites-le pour chaque prestataire.",
            "Kies de aanbieder en wacht tot het klaar is; doe dit voor elke aanbieder.",
        ),
    ),
    Needs.TMS_CONTACT: (
        Text(
            "See first that no payment waits in the terminal: the hub says so on the card of this device.",
            "Vérifiez d'abord qu'aucun paiement n'attend dans le terminal : le boîtier l'indique pour cet appareil.",
            "Kijk eerst of er geen betaling in de terminal wacht: de hub zegt dat bij dit apparaat.",
        ),
        Text("Choose Contact TMS.", "Choisissez Contact TMS.", "Kies Contact TMS."),
        Text(
            "Let it fetch its settings and, if it offers it, its new software; it may restart.",
            "Laissez-le chercher ses réglages et, s'il le propose, son nouveau logiciel ; il peut redémarrer.",
            "Laat hem zijn instellingen en, als hij dat aanbiedt, nieuwe software ophalen; hij kan herstarten.",
        ),
    ),
}


def is_android(model: str) -> bool:
    """Whether a terminal of this model, as a person has written it, has the app Service."""
    return any(_ANDROID.fullmatch(word) for word in re.split(r"[^A-Za-z0-9]+", model))


def steps_of(needs: Needs, model: str, language: str) -> tuple[str, ...]:
    """What to do at a terminal of this model, in order; nothing for a need that has no runbook."""
    acts = _ACTS.get(needs)
    if acts is None:
        return ()
    return tuple(one.of(language) for one in (_MENU[is_android(model)], _MERCHANT, _PASSWORD, *acts))


_TITLES = {
    Needs.PARAMETER_SESSION: "Acquirer parameter session",
    Needs.TMS_CONTACT: "Contact with the management system (TMS)",
}


def page() -> str:
    """The page of the manual."""
    parts = ["# Runbooks for terminals\n\nMade by `python -m hubd.model.runbooks`; `hubctl devices` shows the same.\n"]
    for needs, title in _TITLES.items():
        for name, model in (("Android models (PAX A35, A77, A80, A920)", "A920"), ("Other models", "")):
            for language in LANGUAGES:
                steps = "\n".join(f"{n}. {step}" for n, step in enumerate(steps_of(needs, model, language), 1))
                parts.append(f"## {title}: {name} ({language})\n\n{steps}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
