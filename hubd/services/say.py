"""What a till shows: one sentence for the cashier, one for the customer, and the acts that make sense now."""

from __future__ import annotations

from msgspec import Struct

from hubd.model.payment import Custody, ManualStatus, Payment, PaymentState

LANGUAGES = ("en", "fr", "nl")
FALLBACK = "en"


class Say(Struct, frozen=True):
    """Sentences in one language, and the next acts: wait, ask_terminal, other_method, manager."""

    cashier: str
    customer: str
    allowed: tuple[str, ...]


_SENTENCES: dict[str, dict[str, tuple[str, str]]] = {
    "working": {
        "en": ("Follow the terminal.", "Please follow the terminal."),
        "fr": ("Suivez le terminal.", "Suivez les indications du terminal, s'il vous plaît."),
        "nl": ("Volg de betaalterminal.", "Volg de aanwijzingen op de terminal, alstublieft."),
    },
    "approved": {
        "en": ("Paid.", "Thank you, the payment is done."),
        "fr": ("Payé.", "Merci, le paiement est effectué."),
        "nl": ("Betaald.", "Dank u, de betaling is gelukt."),
    },
    "stored": {
        "en": (
            "Accepted without the bank. Give the receipt; the bank answers later.",
            "Thank you. The bank will confirm your payment later.",
        ),
        "fr": (
            "Accepté sans la banque. Donnez le ticket ; la banque répondra plus tard.",
            "Merci. Votre banque confirmera le paiement plus tard.",
        ),
        "nl": (
            "Aanvaard zonder de bank. Geef de bon; de bank antwoordt later.",
            "Dank u. De bank bevestigt uw betaling later.",
        ),
    },
    "forwarded": {
        "en": (
            "Handed over to the bank, whose answer is still to come. A manager can decide with the bank's statement.",
            "Thank you. The bank will confirm your payment later.",
        ),
        "fr": (
            "Transmis à la banque, dont la réponse est attendue. Le responsable peut décider avec le relevé bancaire.",
            "Merci. Votre banque confirmera le paiement plus tard.",
        ),
        "nl": (
            "Overgedragen aan de bank; het antwoord komt nog. De manager kan beslissen met het bankafschrift.",
            "Dank u. De bank bevestigt uw betaling later.",
        ),
    },
    "stranded": {
        "en": (
            "Kept in a terminal that has not sent it. A manager can decide with the bank's statement.",
            "Your payment has not reached the bank yet.",
        ),
        "fr": (
            "Gardé dans un terminal qui ne l'a pas transmis. Le responsable peut décider avec le relevé bancaire.",
            "Votre paiement n'est pas encore parvenu à la banque.",
        ),
        "nl": (
            "Bewaard in een terminal die het niet heeft verstuurd. De manager kan beslissen met het bankafschrift.",
            "Uw betaling is nog niet bij de bank aangekomen.",
        ),
    },
    "late_refused": {
        "en": ("The bank refused this payment afterwards. Call the manager.", "Your bank has refused this payment."),
        "fr": (
            "La banque a refusé ce paiement après coup. Appelez le responsable.",
            "Votre banque a refusé ce paiement.",
        ),
        "nl": (
            "De bank heeft deze betaling achteraf geweigerd. Roep de manager.",
            "Uw bank heeft deze betaling geweigerd.",
        ),
    },
    "declined": {
        "en": ("Declined. Ask for another card or cash.", "The payment was declined. Do you have another way to pay?"),
        "fr": (
            "Refusé. Demandez une autre carte ou des espèces.",
            "Le paiement est refusé. Avez-vous un autre moyen de paiement ?",
        ),
        "nl": (
            "Geweigerd. Vraag een andere kaart of contant geld.",
            "De betaling is geweigerd. Kunt u op een andere manier betalen?",
        ),
    },
    "cancelled": {
        "en": ("Cancelled. Nothing was charged.", "The payment was cancelled. Nothing was charged."),
        "fr": ("Annulé. Rien n'a été débité.", "Le paiement est annulé. Rien n'a été débité."),
        "nl": ("Geannuleerd. Er is niets afgeschreven.", "De betaling is geannuleerd. Er is niets afgeschreven."),
    },
    "unknown": {
        "en": (
            "The terminal's answer was lost. Do not charge the card again. The hub is asking the terminal.",
            "One moment, we are checking whether your payment went through.",
        ),
        "fr": (
            "La réponse du terminal est perdue. Ne repassez pas la carte. Le boîtier interroge le terminal.",
            "Un instant, nous vérifions si votre paiement est passé.",
        ),
        "nl": (
            "Het antwoord van de terminal is verloren. Laat niet opnieuw betalen. De hub vraagt het na.",
            "Een ogenblik, we controleren of uw betaling is gelukt.",
        ),
    },
    "reversal_pending": {
        "en": ("The reversal is running.", "Your payment is being reversed."),
        "fr": ("L'annulation est en cours.", "L'annulation de votre paiement est en cours."),
        "nl": ("De annulering loopt.", "Uw betaling wordt teruggedraaid."),
    },
    "reversed": {
        "en": ("Reversed. The money goes back.", "Your payment was reversed."),
        "fr": ("Annulé après paiement. L'argent est rendu.", "Votre paiement a été annulé."),
        "nl": ("Teruggedraaid. Het geld gaat terug.", "Uw betaling is teruggedraaid."),
    },
    "conflict": {
        "en": ("The evidence disagrees. Call the manager.", "Please wait for the manager."),
        "fr": ("Les informations se contredisent. Appelez le responsable.", "Veuillez attendre le responsable."),
        "nl": ("De gegevens spreken elkaar tegen. Roep de manager.", "Wacht alstublieft op de manager."),
    },
    "decided_success": {
        "en": ("The manager decided: paid.", "Thank you, the payment is done."),
        "fr": ("Décision du responsable : payé.", "Merci, le paiement est effectué."),
        "nl": ("De manager heeft beslist: betaald.", "Dank u, de betaling is gelukt."),
    },
    "decided_failure": {
        "en": ("The manager decided: not paid.", "The payment was not made."),
        "fr": ("Décision du responsable : non payé.", "Le paiement n'a pas eu lieu."),
        "nl": ("De manager heeft beslist: niet betaald.", "De betaling is niet uitgevoerd."),
    },
    # Refusals: the code of the rule, in words, and what would be possible instead.
    "unknown_asked": {
        "en": (
            "The terminal cannot tell whether the card was charged. Do not charge it again. A manager decides.",
            "We cannot see yet whether your payment went through. A manager is looking into it.",
        ),
        "fr": (
            "Le terminal ne sait pas si la carte a été débitée. Ne la repassez pas. Le responsable décide.",
            "Nous ne voyons pas encore si votre paiement est passé. Le responsable vérifie.",
        ),
        "nl": (
            "De terminal weet niet of de kaart is belast. Laat niet opnieuw betalen. De manager beslist.",
            "We zien nog niet of uw betaling is gelukt. De manager kijkt ernaar.",
        ),
    },
    "previous_unknown": {
        "en": (
            "The last payment of this order is not clear yet. Do not charge again; wait, or call the manager.",
            "One moment, we are still checking your first payment.",
        ),
        "fr": (
            "Le dernier paiement de cette commande n'est pas encore clair. N'encaissez pas ; attendez ou appelez le "
            "responsable.",
            "Un instant, nous vérifions encore votre premier paiement.",
        ),
        "nl": (
            "De laatste betaling van deze bestelling is nog niet duidelijk. Niet opnieuw laten betalen; wacht of roep "
            "de manager.",
            "Een ogenblik, we controleren nog uw eerste betaling.",
        ),
    },
    "previous_in_progress": {
        "en": ("This order is being paid on a terminal right now.", "Please finish the payment on the terminal."),
        "fr": ("Cette commande est en train d'être payée sur un terminal.", "Terminez le paiement sur le terminal."),
        "nl": ("Deze bestelling wordt nu op een terminal betaald.", "Rond de betaling af op de terminal."),
    },
    "no_terminal": {
        "en": ("No terminal is set up for this till. Take cash.", "We cannot take cards here now."),
        "fr": ("Aucun terminal pour cette caisse. Encaissez en espèces.", "Nous ne pouvons pas prendre la carte ici."),
        "nl": ("Er is geen terminal voor deze kassa. Neem contant geld aan.", "Kaarten kunnen hier nu niet."),
    },
    "terminal_elsewhere": {
        "en": (
            "That terminal belongs to another till or shop. Nothing was charged. Use this till's own, or cash.",
            "Nothing was charged.",
        ),
        "fr": (
            "Ce terminal est celui d'une autre caisse ou boutique. Rien n'a été débité. Prenez celui de cette caisse, "
            "ou des espèces.",
            "Rien n'a été débité.",
        ),
        "nl": (
            "Die terminal hoort bij een andere kassa of winkel. Er is niets afgeschreven. Neem die van deze kassa, of "
            "contant geld.",
            "Er is niets afgeschreven.",
        ),
    },
    "terminal_unreachable": {
        "en": ("The terminal does not answer. Nothing was charged. Use another one, or cash.", "Nothing was charged."),
        "fr": (
            "Le terminal ne répond pas. Rien n'a été débité. Prenez un autre terminal ou des espèces.",
            "Rien n'a été débité.",
        ),
        "nl": (
            "De terminal antwoordt niet. Er is niets afgeschreven. Neem een andere terminal of contant geld.",
            "Er is niets afgeschreven.",
        ),
    },
    "terminal_busy": {
        "en": (
            "The terminal is busy. Nothing was charged. Finish what it shows, then try again.",
            "Nothing was charged.",
        ),
        "fr": (
            "Le terminal est occupé. Rien n'a été débité. Terminez l'opération affichée, puis recommencez.",
            "Rien n'a été débité.",
        ),
        "nl": (
            "De terminal is bezet. Er is niets afgeschreven. Rond af wat hij toont en probeer opnieuw.",
            "Er is niets afgeschreven.",
        ),
    },
    "offline_not_enabled": {
        "en": (
            "Cards are not taken while the line is down. Take cash, or call the manager.",
            "Only cash at the moment.",
        ),
        "fr": (
            "Pas de carte pendant la coupure. Encaissez en espèces ou appelez le responsable.",
            "Espèces seulement pour le moment.",
        ),
        "nl": (
            "Geen kaarten zolang de lijn weg is. Neem contant geld aan of roep de manager.",
            "Op dit moment alleen contant geld.",
        ),
    },
    "method_not_allowed_offline": {
        "en": (
            "Not this way while the line is down. Insert the card with PIN, or take cash.",
            "Please insert your card.",
        ),
        "fr": (
            "Pas de cette façon pendant la coupure. Carte insérée avec code, ou espèces.",
            "Veuillez insérer votre carte.",
        ),
        "nl": (
            "Niet op deze manier zolang de lijn weg is. Kaart insteken met pincode, of contant.",
            "Steek uw kaart in.",
        ),
    },
    "over_offline_limit": {
        "en": (
            "Over the limit for card payments while the line is down. Take cash, or less by card.",
            "Partly in cash?",
        ),
        "fr": (
            "Au-dessus de la limite par carte pendant la coupure. Espèces, ou moins par carte.",
            "Pouvez-vous payer une partie en espèces ?",
        ),
        "nl": (
            "Boven de kaartlimiet zolang de lijn weg is. Contant, of minder met de kaart.",
            "Kunt u een deel contant betalen?",
        ),
    },
    "currency_not_allowed_offline": {
        "en": ("No cards in this currency while the line is down. Take cash.", "Only cash at the moment."),
        "fr": ("Pas de carte dans cette devise pendant la coupure. Espèces.", "Espèces seulement pour le moment."),
        "nl": ("Geen kaarten in deze munt zolang de lijn weg is. Contant.", "Op dit moment alleen contant geld."),
    },
    "offline_window_closed": {
        "en": ("The line has been down too long for cards. Take cash.", "Only cash at the moment."),
        "fr": ("La coupure dure depuis trop longtemps pour les cartes. Espèces.", "Espèces seulement pour le moment."),
        "nl": ("De lijn is te lang weg voor kaarten. Contant.", "Op dit moment alleen contant geld."),
    },
    "elapsed_unknown": {
        "en": ("Nobody can tell how long the line has been down. Call the manager, or take cash.", "Only cash now."),
        "fr": (
            "On ne sait pas depuis quand la ligne est coupée. Appelez le responsable, ou espèces.",
            "Espèces seulement pour le moment.",
        ),
        "nl": (
            "Het is niet te zeggen hoe lang de lijn weg is. Roep de manager, of neem contant geld aan.",
            "Op dit moment alleen contant geld.",
        ),
    },
}

_REFUSED: dict[str, dict[str, tuple[str, str]]] = {
    # What a till is told instead of a payment, by the code of the problem document.
    "store.low_space": {
        "en": (
            "The hub's disk is nearly full: no new sales. Nothing was charged. Call the manager.",
            "We cannot take payments at the moment.",
        ),
        "fr": (
            "Le disque du boîtier est presque plein : plus de nouvelle vente. Rien n'a été débité. Appelez le "
            "responsable.",
            "Nous ne pouvons pas encaisser pour le moment.",
        ),
        "nl": (
            "De schijf van de hub is bijna vol: geen nieuwe verkopen. Er is niets afgeschreven. Roep de manager.",
            "We kunnen op dit moment geen betalingen aannemen.",
        ),
    },
    "store.full": {
        "en": ("The hub's disk is full: no new sales. Call the manager.", "We cannot take payments at the moment."),
        "fr": (
            "Le disque du boîtier est plein : plus de nouvelle vente. Appelez le responsable.",
            "Nous ne pouvons pas encaisser pour le moment.",
        ),
        "nl": (
            "De schijf van de hub is vol: geen nieuwe verkopen. Roep de manager.",
            "We kunnen op dit moment geen betalingen aannemen.",
        ),
    },
    "hub_replaced": {
        "en": (
            "Another hub has taken the place of this one. Call the manager: the till must be connected to the new one.",
            "One moment, please.",
        ),
        "fr": (
            "Un autre boîtier remplace celui-ci. Appelez le responsable : la caisse doit être reliée au nouveau.",
            "Un instant, s'il vous plaît.",
        ),
        "nl": (
            "Een andere hub heeft deze vervangen. Roep de manager: de kassa moet met de nieuwe verbonden worden.",
            "Een ogenblik, alstublieft.",
        ),
    },
    "hub_line_changed": {
        "en": ("The hub was restored. The till first tells it what it holds; wait.", "One moment, please."),
        "fr": (
            "Le boîtier a été restauré. La caisse lui transmet d'abord ce qu'elle sait ; attendez.",
            "Un instant, s'il vous plaît.",
        ),
        "nl": ("De hub is hersteld. De kassa vertelt eerst wat zij weet; wacht.", "Een ogenblik, alstublieft."),
    },
    "order_closed": {
        "en": ("This order is paid or cancelled already. Look at it before you go on.", "One moment, please."),
        "fr": (
            "Cette commande est déjà payée ou annulée. Vérifiez-la avant de continuer.",
            "Un instant, s'il vous plaît.",
        ),
        "nl": (
            "Deze bestelling is al betaald of geannuleerd. Bekijk haar voordat u verdergaat.",
            "Een ogenblik, alstublieft.",
        ),
    },
    "over_amount_due": {
        "en": ("That is more than what is still due. Take what is due.", "One moment, please."),
        "fr": ("C'est plus que ce qui reste à payer. Encaissez le reste dû.", "Un instant, s'il vous plaît."),
        "nl": ("Dat is meer dan er nog te betalen is. Neem het openstaande bedrag.", "Een ogenblik, alstublieft."),
    },
}

_ALLOWED: dict[str, tuple[str, ...]] = {
    "working": ("wait",),
    "unknown": ("wait", "ask_terminal", "manager"),
    "unknown_asked": ("ask_terminal", "manager"),
    "previous_unknown": ("wait", "ask_terminal", "manager"),
    "previous_in_progress": ("wait",),
    "declined": ("other_method",),
    "cancelled": ("other_method",),
    "terminal_busy": ("wait", "other_method"),
    "terminal_unreachable": ("other_method", "manager"),
    "terminal_elsewhere": ("other_method",),
    "no_terminal": ("other_method", "manager"),
    "offline_not_enabled": ("other_method", "manager"),
    "method_not_allowed_offline": ("other_method",),
    "over_offline_limit": ("other_method",),
    "currency_not_allowed_offline": ("other_method",),
    "offline_window_closed": ("other_method",),
    "elapsed_unknown": ("manager", "other_method"),
    "reversal_pending": ("wait", "manager"),
    "conflict": ("manager",),
    "forwarded": ("wait", "manager"),
    "stranded": ("wait", "manager"),
    "late_refused": ("manager",),
    "decided_failure": ("other_method",),
    "store.low_space": ("manager",),
    "store.full": ("manager",),
    "hub_replaced": ("manager",),
    "hub_line_changed": ("wait",),
}

_LATE = frozenset({Custody.DECLINED_LATE, Custody.EXPIRED, Custody.REJECTED})


def situation(payment: Payment, decidable: bool = False, asking: bool = True) -> str:
    """The stable word for what a till should show of a payment.

    `decidable` says that a person may decide it now (`PaymentDesk.decidable`), `asking` that the hub still asks the
    terminal about an unknown one (`PaymentDesk.asking`).
    """
    if payment.decision is not None:
        return "decided_success" if payment.decision is ManualStatus.SUCCESS else "decided_failure"
    if payment.state in {PaymentState.REQUESTED, PaymentState.IN_PROGRESS}:
        return "working"
    if payment.state is PaymentState.STORED:
        if payment.custody is Custody.CAPTURED:
            return "approved"
        if payment.custody in _LATE:
            return "late_refused"
        if decidable:
            return "forwarded" if payment.custody is Custody.FORWARDED else "stranded"
        return "stored"
    if payment.state in {PaymentState.REFUSED, PaymentState.CANCELLED} and payment.reason in _SENTENCES:
        return payment.reason
    if payment.state is PaymentState.REFUSED:
        return "declined"
    if payment.state is PaymentState.UNKNOWN and not asking:
        return "unknown_asked"
    return payment.state.value


def say(payment: Payment, language: str, decidable: bool = False, asking: bool = True) -> Say:
    """The sentences and acts for a payment as it is, in the till's language (English if it has none of ours)."""
    word = situation(payment, decidable, asking)
    return _spoken(word, _SENTENCES[word], language)


def say_refused(code: str, language: str) -> Say | None:
    """The same for a request that became no payment, by the refusal's code; None where a program has made a mistake."""
    sentences = _REFUSED.get(code)
    return _spoken(code, sentences, language) if sentences is not None else None


def _spoken(word: str, sentences: dict[str, tuple[str, str]], language: str) -> Say:
    cashier, customer = sentences.get(language[:2].lower(), sentences[FALLBACK])
    return Say(cashier, customer, _ALLOWED.get(word, ()))
