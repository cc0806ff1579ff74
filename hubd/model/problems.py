"""Every problem the hub knows: code, severity, title and remedy in three languages, what hides it, when it shows.

The catalogue is data. Braces name parameters of the occurrence; `{money}` is a sum in the reader's own format.
`python -m hubd.model.problems` prints the page of the manual (docs/operating/problems.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from hubd.model.device_problems import DEVICE_KINDS
from hubd.model.problem import ProblemKind, Severity, Text

_C, _W, _N = Severity.CRITICAL, Severity.WARNING, Severity.NOTICE
_LINE = ("network.outage", "service.disruption")

_KINDS = (
    # -- money -------------------------------------------------------------------------------------------------------
    ProblemKind(
        "payments.unknown",
        _C,
        Text(
            "{count} payment(s) without a known result",
            "{count} paiement(s) sans résultat connu",
            "{count} betaling(en) zonder bekend resultaat",
        ),
        Text(
            "Do not charge the card again. The hub asks the terminal; keep the terminal switched on and connected.",
            "Ne repassez pas la carte. Le boîtier interroge le terminal ; laissez-le allumé et branché.",
            "Laat de klant niet opnieuw betalen. De hub vraagt het aan de terminal; laat die aan en aangesloten.",
        ),
        money_title=Text(
            "{money}: answer of the terminal lost ({count})",
            "{money} : réponse du terminal perdue ({count})",
            "{money}: antwoord van de terminal verloren ({count})",
        ),
    ),
    ProblemKind(
        "payments.conflict",
        _C,
        Text(
            "{count} payment(s) on which two sources disagree",
            "{count} paiement(s) sur lesquels deux sources se contredisent",
            "{count} betaling(en) waarover twee bronnen elkaar tegenspreken",
        ),
        Text(
            "Compare the receipt with the terminal's list and let a manager decide, with a reason.",
            "Comparez le ticket avec la liste du terminal, puis un responsable décide, avec un motif.",
            "Vergelijk de bon met de lijst van de terminal en laat een manager met een reden beslissen.",
        ),
        money_title=Text(
            "{money}: two sources disagree ({count})",
            "{money} : deux sources se contredisent ({count})",
            "{money}: twee bronnen spreken elkaar tegen ({count})",
        ),
    ),
    ProblemKind(
        "order.paid_twice",
        _C,
        Text(
            "{count} order(s) paid twice: {orders}",
            "{count} commande(s) payée(s) deux fois : {orders}",
            "{count} bestelling(en) dubbel betaald: {orders}",
        ),
        Text(
            "Give the customer the money back: a manager reverses or refunds one payment.",
            "Rendez l'argent au client : un responsable annule ou rembourse un des paiements.",
            "Geef de klant het geld terug: een manager draait een betaling terug of betaalt ze terug.",
        ),
        money_title=Text(
            "{money} taken twice for {count} order(s): {orders}",
            "{money} encaissés deux fois pour {count} commande(s) : {orders}",
            "{money} dubbel ontvangen voor {count} bestelling(en): {orders}",
        ),
    ),
    ProblemKind(
        "payments.overdue",
        _C,
        Text(
            "{count} stored payment(s) past their deadline",
            "{count} paiement(s) gardés au-delà de leur échéance",
            "{count} bewaarde betaling(en) voorbij hun termijn",
        ),
        Text(
            "If the Internet is down, restore it now; the hub keeps trying. Only the bank's word makes them lost.",
            "Si Internet est coupé, rétablissez-le maintenant ; le boîtier continue d'essayer. Seule la banque peut "
            "les dire perdus.",
            "Is het internet uitgevallen, herstel het dan nu; de hub blijft proberen. Alleen de bank bepaalt of ze "
            "verloren zijn.",
        ),
        money_title=Text(
            "{money} past the deadline ({count})",
            "{money} au-delà de l'échéance ({count})",
            "{money} voorbij de termijn ({count})",
        ),
    ),
    ProblemKind(
        "payments.outside_policy",
        _W,
        Text(
            "A terminal has stored {count} payment(s) that the shop's rules for outages forbid",
            "Un terminal a gardé {count} paiement(s) que les règles du magasin interdisent hors ligne",
            "Een terminal heeft {count} betaling(en) bewaard die de storingsregels van de winkel verbieden",
        ),
        Text(
            "Restore the line so that they are sent. Ask the terminal's provider why it takes offline what the shop"
            " does not, or change the shop's rules.",
            "Rétablissez la ligne pour qu'ils partent. Demandez au prestataire du terminal pourquoi il accepte hors"
            " ligne ce que le magasin refuse, ou changez les règles du magasin.",
            "Herstel de lijn zodat ze worden verzonden. Vraag de leverancier van de terminal waarom die offline"
            " aanneemt wat de winkel weigert, of wijzig de regels van de winkel.",
        ),
        money_title=Text(
            "{money} stored against the shop's rules for outages ({count})",
            "{money} gardés contre les règles du magasin hors ligne ({count})",
            "{money} bewaard tegen de storingsregels van de winkel in ({count})",
        ),
    ),
    ProblemKind(
        "payments.declined_late",
        _W,
        Text(
            "The bank refused {count} payment(s) afterwards",
            "La banque a refusé {count} paiement(s) après coup",
            "De bank heeft {count} betaling(en) achteraf geweigerd",
        ),
        Text(
            "Look at the list: the customer has left with the goods and nobody but you will tell him.",
            "Regardez la liste : le client est parti avec ses achats et personne d'autre que vous ne le préviendra.",
            "Bekijk de lijst: de klant is met zijn aankopen vertrokken en alleen u kunt het hem zeggen.",
        ),
    ),
    ProblemKind(
        "statement.disagrees",
        _C,
        Text(
            "Hub and cloud count an outage differently",
            "Le boîtier et le cloud ne comptent pas une coupure de la même façon",
            "Hub en cloud tellen een storing verschillend",
        ),
        Text(
            "Keep the hub running and call your support with the statement; nothing is deleted on either side.",
            "Laissez le boîtier allumé et appelez l'assistance avec le relevé ; rien n'est effacé d'aucun côté.",
            "Laat de hub aan en bel de helpdesk met het overzicht; aan geen van beide kanten wordt iets gewist.",
        ),
    ),
    # -- devices -----------------------------------------------------------------------------------------------------
    *DEVICE_KINDS,
    # -- the line ----------------------------------------------------------------------------------------------------
    ProblemKind(
        "network.outage",
        _W,
        Text("The Internet is down", "Internet est coupé", "Het internet is uitgevallen"),
        Text(
            "Restart the Internet box, check its cables, then call your operator. Leave hub and terminals plugged in.",
            "Redémarrez la box Internet, vérifiez ses câbles, puis appelez votre opérateur. Ne débranchez ni le "
            "boîtier ni les terminaux.",
            "Herstart het internetmodem, controleer de kabels en bel daarna uw provider. Laat hub en terminals "
            "aangesloten.",
        ),
    ),
    ProblemKind(
        "service.disruption",
        _W,
        Text(
            "The payment service is disturbed; your Internet works",
            "Le service de paiement est perturbé ; votre Internet fonctionne",
            "De betaaldienst is verstoord; uw internet werkt",
        ),
        Text(
            "Nothing to do in the shop. Stored payments leave by themselves when the service is back.",
            "Rien à faire au magasin. Les paiements gardés partiront d'eux-mêmes au retour du service.",
            "In de winkel is niets te doen. Bewaarde betalingen vertrekken vanzelf zodra de dienst terug is.",
        ),
    ),
    ProblemKind(
        "cloud.unreachable",
        _W,
        Text("The cloud does not answer", "Le cloud ne répond pas", "De cloud antwoordt niet"),
        Text(
            "Nothing is lost: everything is kept here and sent later. If it lasts, call your support.",
            "Rien n'est perdu : tout est gardé ici et envoyé plus tard. Si cela dure, appelez l'assistance.",
            "Er gaat niets verloren: alles wordt hier bewaard en later verstuurd. Duurt het lang, bel de helpdesk.",
        ),
        depends_on=_LINE,
        visible_after_s=60,
    ),
    ProblemKind(
        "cloud.not_enrolled",
        _N,
        Text(
            "This hub is not connected to a cloud yet",
            "Ce boîtier n'est pas encore relié à un cloud",
            "Deze hub is nog niet met een cloud verbonden",
        ),
        Text(
            "Selling works. Enter the enrolment code when you have it.",
            "Vous pouvez vendre. Saisissez le code d'inscription quand vous l'avez.",
            "Verkopen werkt. Voer de aanmeldcode in zodra u die hebt.",
        ),
    ),
    ProblemKind(
        "enrolment.file_unusable",
        _W,
        Text(
            "The enrolment file {file} cannot be used ({reason})",
            "Le fichier d'inscription {file} est inutilisable ({reason})",
            "Het aanmeldbestand {file} is onbruikbaar ({reason})",
        ),
        Text(
            "Selling works. A technician runs hubd check-config, which says what is wrong, and mends the file.",
            "Vous pouvez vendre. Un technicien lance hubd check-config, qui dit ce qui cloche, et corrige le fichier.",
            "Verkopen werkt. Een technicus start hubd check-config, dat zegt wat er mis is, en verbetert het bestand.",
        ),
    ),
    ProblemKind(
        "enrolment.token_refused",
        _W,
        Text(
            "The token in {file} has not connected this hub to its cloud ({reason})",
            "Le jeton de {file} n'a pas relié ce boîtier à son cloud ({reason})",
            "Het token in {file} heeft deze hub niet met de cloud verbonden ({reason})",
        ),
        Text(
            "Selling works. Ask for a new token or code: put the token into the file, or enter the code on the page. "
            "The hub keeps the file and tries again by itself.",
            "Vous pouvez vendre. Demandez un nouveau jeton ou code : mettez le jeton dans le fichier ou saisissez le "
            "code sur la page. Le boîtier garde le fichier et réessaie lui-même.",
            "Verkopen werkt. Vraag een nieuw token of een nieuwe code: zet het token in het bestand of voer de code in "
            "op de pagina. De hub bewaart het bestand en probeert het zelf opnieuw.",
        ),
        depends_on=_LINE,
        visible_after_s=30,
    ),
    ProblemKind(
        "enrolment.token_left",
        _W,
        Text(
            "The used enrolment token still lies in {file}",
            "Le jeton d'inscription utilisé se trouve encore dans {file}",
            "Het gebruikte aanmeldtoken staat nog in {file}",
        ),
        Text(
            "A technician removes the file; it is of no more use here.",
            "Un technicien supprime le fichier ; il ne sert plus à rien ici.",
            "Een technicus verwijdert het bestand; het is hier niet meer nodig.",
        ),
    ),
    # -- sync --------------------------------------------------------------------------------------------------------
    ProblemKind(
        "sync.waiting",
        _W,
        Text(
            "{count} records wait to be sent to the cloud",
            "{count} enregistrements attendent d'être envoyés au cloud",
            "{count} gegevens wachten op verzending naar de cloud",
        ),
        Text(
            "They are safe here. If the Internet works and this stays, call your support.",
            "Ils sont en sûreté ici. Si Internet fonctionne et que cela dure, appelez l'assistance.",
            "Ze zijn hier veilig. Werkt het internet en blijft dit staan, bel dan de helpdesk.",
        ),
        depends_on=(*_LINE, "cloud.unreachable", "cloud.not_enrolled"),
        visible_after_s=300,
    ),
    ProblemKind(
        "sync.proof_mismatch",
        _C,
        Text(
            "The cloud confirmed something that this hub did not write",
            "Le cloud a confirmé quelque chose que ce boîtier n'a pas écrit",
            "De cloud heeft iets bevestigd dat deze hub niet heeft geschreven",
        ),
        Text(
            "Selling goes on and nothing is deleted. A technician compares the journals (hubctl journal verify).",
            "La vente continue et rien n'est effacé. Un technicien compare les journaux (hubctl journal verify).",
            "De verkoop gaat door, niets wordt gewist. Een technicus vergelijkt de journalen (hubctl journal verify).",
        ),
    ),
    ProblemKind(
        "sync.rejected",
        _C,
        Text(
            "The cloud cannot read what this hub sends",
            "Le cloud ne peut pas lire ce que ce boîtier envoie",
            "De cloud kan niet lezen wat deze hub stuurt",
        ),
        Text(
            "Selling goes on and nothing is lost; it is kept here. Call your support (hubctl bugreport).",
            "La vente continue et rien n'est perdu ; tout est gardé ici. Appelez l'assistance (hubctl bugreport).",
            "De verkoop gaat door en niets gaat verloren; het blijft hier. Bel de helpdesk (hubctl bugreport).",
        ),
    ),
    ProblemKind(
        "sync.too_old",
        _W,
        Text(
            "Hub and cloud have no version in common",
            "Le boîtier et le cloud n'ont pas de version commune",
            "Hub en cloud hebben geen gezamenlijke versie",
        ),
        Text(
            "Selling goes on. A technician updates the hub.",
            "La vente continue. Un technicien met le boîtier à jour.",
            "De verkoop gaat door. Een technicus werkt de hub bij.",
        ),
    ),
    ProblemKind(
        "sync.dead_letters",
        _W,
        Text(
            "{count} message(s) of the cloud cannot be used",
            "{count} message(s) du cloud inutilisables",
            "{count} bericht(en) van de cloud onbruikbaar",
        ),
        Text(
            "They are kept. A technician looks at the reason and retries (hubctl sync retry).",
            "Ils sont gardés. Un technicien regarde le motif et réessaie (hubctl sync retry).",
            "Ze worden bewaard. Een technicus bekijkt de reden en probeert opnieuw (hubctl sync retry).",
        ),
    ),
    ProblemKind(
        "hub.cloned",
        _C,
        Text(
            "Another hub uses the identity of this one",
            "Un autre boîtier utilise l'identité de celui-ci",
            "Een andere hub gebruikt de identiteit van deze",
        ),
        Text(
            "Selling goes on. A technician says in the cloud which of the two sells, or enrols the copy anew.",
            "La vente continue. Un technicien dit dans le cloud lequel des deux vend, ou réinscrit la copie.",
            "De verkoop gaat door. Een technicus zegt in de cloud welke verkoopt, of meldt de kopie opnieuw aan.",
        ),
    ),
    ProblemKind(
        "hub.replaced",
        _C,
        Text(
            "This hub was replaced and no longer sells",
            "Ce boîtier a été remplacé et ne vend plus",
            "Deze hub is vervangen en verkoopt niet meer",
        ),
        Text(
            "Connect the tills to the new hub. Keep this one until all is sent (hubctl journal export).",
            "Reliez les caisses au nouveau boîtier. Gardez celui-ci jusqu'à l'envoi complet (hubctl journal export).",
            "Verbind de kassa's met de nieuwe hub. Bewaar deze tot alles is verzonden (hubctl journal export).",
        ),
    ),
    # -- the machine -------------------------------------------------------------------------------------------------
    ProblemKind(
        "store.low_space",
        _W,
        Text(
            "The hub's disk is nearly full",
            "Le disque du boîtier est presque plein",
            "De schijf van de hub is bijna vol",
        ),
        Text(
            "A technician frees space (hubctl doctor names the disk). A full disk refuses new sales.",
            "Un technicien libère de la place (hubctl doctor indique le disque). Un disque plein "
            "refuse les nouvelles ventes.",
            "Een technicus maakt ruimte (hubctl doctor noemt de schijf). Een volle schijf weigert nieuwe verkopen.",
        ),
    ),
    ProblemKind(
        "store.full",
        _C,
        Text(
            "The hub's disk is full: no new sale can be kept",
            "Le disque du boîtier est plein : aucune nouvelle vente ne peut être gardée",
            "De schijf van de hub is vol: geen nieuwe verkoop kan worden bewaard",
        ),
        Text(
            "What was accepted is safe. A technician frees space now (hubctl doctor names the disk).",
            "Ce qui a été accepté est en sûreté. Un technicien libère de la place maintenant (hubctl doctor).",
            "Wat is geaccepteerd, is veilig. Een technicus maakt nu ruimte (hubctl doctor noemt de schijf).",
        ),
    ),
    ProblemKind(
        "store.damaged",
        _C,
        Text(
            "The journal has a damaged place at entry {seq}",
            "Le journal a un endroit endommagé à l'entrée {seq}",
            "Het journaal is beschadigd bij gegeven {seq}",
        ),
        Text(
            "Do not switch the hub off. A technician makes a backup and checks the journal (hubctl backup make, hubctl "
            "journal verify).",
            "N'éteignez pas le boîtier. Un technicien fait une sauvegarde et vérifie le journal (hubctl backup make, "
            "hubctl journal verify).",
            "Zet de hub niet uit. Een technicus maakt een back-up en controleert het journaal (hubctl backup make, "
            "hubctl journal verify).",
        ),
    ),
    ProblemKind(
        "no_backup_elsewhere",
        _W,
        Text(
            "No verified backup outside this hub for 24 hours",
            "Aucune sauvegarde vérifiée hors de ce boîtier depuis 24 heures",
            "Al 24 uur geen gecontroleerde back-up buiten deze hub",
        ),
        Text(
            "Plug in the backup stick, or restore the Internet. The hub then makes the backup by itself.",
            "Branchez la clé de sauvegarde ou rétablissez Internet. Le boîtier fait alors la sauvegarde lui-même.",
            "Sluit de back-upstick aan of herstel het internet. De hub maakt de back-up dan zelf.",
        ),
    ),
    ProblemKind(
        "backup.code_unconfirmed",
        _W,
        Text(
            "Nobody has confirmed yet that the recovery code is on paper",
            "Personne n'a encore confirmé que le code de secours est noté sur papier",
            "Niemand heeft nog bevestigd dat de herstelcode op papier staat",
        ),
        Text(
            "The owner signs in and writes it down: without it nobody can open a backup.",
            "Le propriétaire s'identifie et le note : sans lui, personne ne peut ouvrir une sauvegarde.",
            "De eigenaar meldt zich aan en schrijft hem op: zonder die code kan niemand een back-up openen.",
        ),
    ),
    ProblemKind(
        "backup.failed",
        _W,
        Text("The last backup failed", "La dernière sauvegarde a échoué", "De laatste back-up is mislukt"),
        Text(
            "Check the stick and its free space; the hub tries again by itself.",
            "Vérifiez la clé et sa place libre ; le boîtier réessaie lui-même.",
            "Controleer de stick en de vrije ruimte; de hub probeert het zelf opnieuw.",
        ),
    ),
    ProblemKind(
        "clock.uncertain",
        _N,
        Text(
            "The hub's clock has not been confirmed yet",
            "L'heure du boîtier n'est pas encore confirmée",
            "De klok van de hub is nog niet bevestigd",
        ),
        Text(
            "Selling works; the order of sales is kept. The clock sets itself when the Internet is back.",
            "Vous pouvez vendre ; l'ordre des ventes est gardé. L'heure se règle seule au retour d'Internet.",
            "Verkopen werkt; de volgorde blijft bewaard. De klok stelt zichzelf in zodra het internet terug is.",
        ),
        visible_after_s=120,
    ),
    ProblemKind(
        "certificate.expires",
        _N,
        Text(
            "The hub's certificate ends in {days} day(s)",
            "Le certificat du boîtier expire dans {days} jour(s)",
            "Het certificaat van de hub verloopt over {days} dag(en)",
        ),
        Text(
            "The hub renews it by itself; restart the hub if this stays for a week.",
            "Le boîtier le renouvelle lui-même ; redémarrez-le si cela dure une semaine.",
            "De hub vernieuwt het zelf; herstart de hub als dit een week blijft staan.",
        ),
    ),
    ProblemKind(
        "worker.failing",
        _W,
        Text(
            "A part of the hub keeps failing: {name}",
            "Une partie du boîtier échoue sans cesse : {name}",
            "Een deel van de hub valt steeds uit: {name}",
        ),
        Text(
            "It restarts by itself. If this stays, make a report for your support (hubctl bugreport).",
            "Elle redémarre d'elle-même. Si cela dure, faites un rapport pour l'assistance (hubctl bugreport).",
            "Het herstart vanzelf. Blijft dit staan, maak dan een rapport voor de helpdesk (hubctl bugreport).",
        ),
        visible_after_s=30,
    ),
)

CATALOGUE: Mapping[str, ProblemKind] = {kind.code: kind for kind in _KINDS}


def reference() -> str:
    """The page of the manual, from the catalogue."""
    lines = [
        "# Problems and their remedies",
        "",
        "The same list stands on the status page, in `hubctl status`, in the API (`GET /v1/problems`) and in the logs.",
        "Names in braces are filled in when the problem occurs. A problem about a device that holds money is titled by",
        "the money and comes first. A problem that another one explains is not shown beside it.",
        "",
        "This page is generated: `python -m hubd.model.problems > docs/operating/problems.md`.",
    ]
    for kind in _KINDS:
        lines += ["", f"## `{kind.code}`", "", f"**{kind.title.en}** ({kind.severity.value})", "", kind.remedy.en]
        if kind.money_title:
            lines += ["", f"With money in it, critical: **{kind.money_title.en}**"]
        if kind.visible_after_s:
            lines += ["", f"Shown after {kind.visible_after_s} s."]
        if kind.depends_on:
            lines += ["", "Not shown beside " + ", ".join(f"`{code}`" for code in kind.depends_on) + "."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(reference(), end="")
