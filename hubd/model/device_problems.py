"""The part of the catalogue of problems (`hubd.model.problems`) that is about devices."""

from __future__ import annotations

from hubd.model.problem import ProblemKind, Severity, Text

_C, _W, _N = Severity.CRITICAL, Severity.WARNING, Severity.NOTICE
_LINE = ("network.outage", "service.disruption")

DEVICE_KINDS = (
    ProblemKind(
        "device.gone",
        _W,
        Text("{name} is unplugged or off", "{name} est débranché ou éteint", "{name} is losgekoppeld of staat uit"),
        Text(
            "Plug it in and switch it on again. Leave the hub and the other devices alone.",
            "Rebranchez-le et rallumez-le. Ne touchez ni au boîtier ni aux autres appareils.",
            "Sluit het weer aan en zet het aan. Laat de hub en de andere apparaten met rust.",
        ),
        money_title=Text(
            "{money} in {name}, which is unplugged or off",
            "{money} dans {name}, débranché ou éteint",
            "{money} in {name}, die losgekoppeld is of uit staat",
        ),
        visible_after_s=5,
    ),
    ProblemKind(
        "device.silent",
        _W,
        Text("{name} does not answer", "{name} ne répond pas", "{name} antwoordt niet"),
        Text(
            "Look at its screen; if it is stuck, restart it with its own button. Do not unplug the hub.",
            "Regardez son écran ; s'il est bloqué, redémarrez-le avec son propre bouton. Ne débranchez pas le boîtier.",
            "Kijk op het scherm; zit het vast, herstart het met de eigen knop. Koppel de hub niet los.",
        ),
        money_title=Text(
            "{money} in {name}, which does not answer",
            "{money} dans {name}, qui ne répond pas",
            "{money} in {name}, die niet antwoordt",
        ),
        visible_after_s=10,
    ),
    ProblemKind(
        "device.faulty",
        _W,
        Text(
            "{name} reports a fault: {reason}", "{name} signale un défaut : {reason}", "{name} meldt een fout: {reason}"
        ),
        Text(
            "Follow what its own screen says; if the fault stays, call your support with these words.",
            "Suivez ce qu'indique son écran ; si le défaut reste, appelez l'assistance avec ces mots.",
            "Volg wat het scherm zegt; blijft de fout, bel dan de helpdesk met deze woorden.",
        ),
        money_title=Text(
            "{money} in {name}, which reports a fault: {reason}",
            "{money} dans {name}, qui signale un défaut : {reason}",
            "{money} in {name}, die een fout meldt: {reason}",
        ),
        visible_after_s=5,
    ),
    ProblemKind(
        "printer.no_paper",
        _W,
        Text("{name} is out of paper", "{name} n'a plus de papier", "Het papier van {name} is op"),
        Text(
            "Put in a new roll and close the cover. What waits is printed then by itself.",
            "Mettez un nouveau rouleau et fermez le capot. Ce qui attend s'imprime alors de lui-même.",
            "Doe er een nieuwe rol in en sluit de klep. Wat wacht, wordt dan vanzelf afgedrukt.",
        ),
        visible_after_s=5,
    ),
    ProblemKind(
        "printer.cover_open",
        _W,
        Text("The cover of {name} is open", "Le capot de {name} est ouvert", "De klep van {name} staat open"),
        Text(
            "Close it. What waits is printed then by itself.",
            "Fermez-le. Ce qui attend s'imprime alors de lui-même.",
            "Sluit hem. Wat wacht, wordt dan vanzelf afgedrukt.",
        ),
        visible_after_s=5,
    ),
    ProblemKind(
        "device.claimed_twice",
        _W,
        Text(
            "{name} fits two drivers: {first} and {second}",
            "{name} correspond à deux pilotes : {first} et {second}",
            "{name} past bij twee stuurprogramma's: {first} en {second}",
        ),
        Text(
            "A manager says on the page of devices which of the two it is.",
            "Un responsable dit sur la page des appareils lequel des deux c'est.",
            "Een manager zegt op de pagina met apparaten welk van de twee het is.",
        ),
    ),
    ProblemKind(
        "device.not_activated",
        _N,
        Text(
            "{name} was found and is not in use yet",
            "{name} a été trouvé et n'est pas encore utilisé",
            "{name} is gevonden en nog niet in gebruik",
        ),
        Text(
            "If it is yours, a manager activates it on the page of devices.",
            "S'il est à vous, un responsable l'active sur la page des appareils.",
            "Is het van u, dan activeert een manager het op de pagina met apparaten.",
        ),
    ),
    ProblemKind(
        "terminal.parameter_session",
        _W,
        Text(
            "{name} must fetch its acquirer parameters (left: {left})",
            "{name} doit refaire sa session de paramètres acquirer (reste : {left})",
            "{name} moet zijn acquirerparameters ophalen (nog: {left})",
        ),
        Text(
            "Start the parameter session for every provider: from the card of this device, or in the terminal's menu.",
            "Lancez la session de paramètres pour chaque prestataire : depuis la fiche de cet appareil, ou au menu du"
            " terminal.",
            "Start de parametersessie voor elke aanbieder: vanaf de kaart van dit apparaat, of in het menu van de"
            " terminal.",
        ),
    ),
    ProblemKind(
        "terminal.tms_contact",
        _W,
        Text(
            "{name} says that its configuration failed",
            "{name} indique que sa configuration a échoué",
            "{name} meldt dat de configuratie is mislukt",
        ),
        Text(
            "Let it contact its TMS: from the card of this device, or in the terminal's menu. Its queue must be empty.",
            "Faites un contact TMS : depuis la fiche de cet appareil, ou au menu du terminal. Sa file doit être vide.",
            "Laat hem contact maken met zijn TMS: vanaf de kaart van dit apparaat, of in het menu. Zijn wachtrij moet"
            " leeg zijn.",
        ),
    ),
    ProblemKind(
        "terminal.default_password",
        _N,
        Text(
            "{name} still has the menu password of the manual",
            "{name} a encore le mot de passe de menu du manuel",
            "{name} heeft nog het menuwachtwoord uit de handleiding",
        ),
        Text(
            "Change it in the terminal's menu, then say so on the card of this device.",
            "Changez-le dans le menu du terminal, puis indiquez-le sur la fiche de cet appareil.",
            "Wijzig het in het menu van de terminal en meld dat op de kaart van dit apparaat.",
        ),
    ),
    ProblemKind(
        "terminal.totals_differ",
        _W,
        Text(
            "{name} counted something else than the hub at its last end of day",
            "{name} n'a pas compté comme le boîtier à sa dernière fin de journée",
            "{name} telde bij de laatste dagafsluiting iets anders dan de hub",
        ),
        Text(
            "Compare the terminal's receipt with its payments here; somebody may have used it without the hub.",
            "Comparez le ticket du terminal avec ses paiements ici ; il a pu servir sans le boîtier.",
            "Vergelijk de bon van de terminal met zijn betalingen hier; misschien is hij zonder de hub gebruikt.",
        ),
    ),
    ProblemKind(
        "print.waiting",
        _W,
        Text(
            "{count} print job(s) wait for {name}",
            "{count} impression(s) en attente sur {name}",
            "{count} afdruk(ken) wachten op {name}",
        ),
        Text(
            "Look at its paper, its cover and its cable; the hub prints by itself when it is ready.",
            "Vérifiez le papier, le capot et le câble ; le boîtier imprime de lui-même dès que c'est possible.",
            "Controleer papier, klep en kabel; de hub drukt vanzelf af zodra dat kan.",
        ),
        visible_after_s=20,
    ),
    ProblemKind(
        "receipt_pending",
        _W,
        Text(
            "{count} merchant receipt(s) of offline payments are not on the paper of {name}",
            "{count} ticket(s) commerçant de paiements hors ligne non sortis sur {name}",
            "{count} winkelbon(nen) van offline betalingen staan niet op papier van {name}",
        ),
        Text(
            "The payments are safe in the hub. See to the printer, or print the receipts from the page of the payment.",
            "Les paiements sont en sûreté dans le boîtier. Voyez l'imprimante, ou imprimez depuis la page du paiement.",
            "De betalingen staan veilig in de hub. Kijk de printer na, of druk af vanaf de pagina van de betaling.",
        ),
        visible_after_s=20,
    ),
    ProblemKind(
        "print.unknown",
        _N,
        Text(
            "{count} paper(s) of {name} may or may not be printed",
            "{count} papier(s) de {name} : imprimés ou non, on ne sait pas",
            "{count} afdruk(ken) van {name}: gelukt of niet, dat is onbekend",
        ),
        Text(
            "Look whether the paper is there. If not, print it again: it will say COPY.",
            "Regardez si le papier est sorti. Sinon, réimprimez : il portera DUPLICATA.",
            "Kijk of het papier er is. Zo niet, druk opnieuw af: er staat dan KOPIE op.",
        ),
    ),
    ProblemKind(
        "print.refused",
        _W,
        Text(
            "A print job for {name} was not taken ({reason})",
            "Une impression pour {name} n'a pas été acceptée ({reason})",
            "Een afdruk voor {name} is niet aangenomen ({reason})",
        ),
        Text(
            "Nothing of it was printed. Print it again from the till, and never a card number.",
            "Rien n'est imprimé. Relancez l'impression depuis la caisse ; jamais de numéro de carte sur un ticket.",
            "Er is niets afgedrukt. Druk opnieuw af vanaf de kassa, en nooit een kaartnummer.",
        ),
    ),
)
