"""What does a provider offer? One polite connection to each port, as a mail program would open it, and a report card.

It reads the greeting and the capabilities, starts TLS where that is offered, reads the capabilities again inside, looks at
the certificate, and says QUIT. It never sends a credential and never begins a message. Whatever stands behind a port may be
hostile or no mail server at all: every octet and every second is bounded, and what goes wrong is a row of the card.
"""

from labkit.probing.card import Grade, ReportCard, Row
from labkit.probing.offer import Offer, ShownCertificate
from labkit.probing.visit import probe

__all__ = ["Grade", "Offer", "ReportCard", "Row", "ShownCertificate", "probe"]
