"""One real exchange under a policy, and the same exchange under several, side by side.

hanako sends the course's message to taro, and taro reads it: a real provider, a real client, a real capture. Everything
that the comparison shows is read from the captures.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from labkit.capture import Capture
from labkit.errors import BadSetting
from labkit.mail.policy import Policy, resolve
from labkit.mail.sample import sample_message
from labkit.provider import Provider
from labkit.show.comparison import TEXT_WIDTH, ComparisonView, ShownSession
from labkit.show.figure import Figure
from labkit.show.ladder import Ladder
from labkit.show.page import page
from labkit.show.strip import Strip
from labkit.show.view import View
from labkit.texts import _

# The article's four situations.
FOUR = ("plaintext", "smtp-auth", "pop-before-smtp", "ssl")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One exchange: what the provider demanded, and what crossed the network."""

    policy: Policy
    capture: Capture

    @property
    def session(self) -> ShownSession:
        """As `show` takes it."""
        return ShownSession(self.policy.title, self.capture.flows, self.capture.findings, self.capture.cost)


def exchange(policy: Policy | str, *, engine: str = "auto") -> Exchange:
    """hanako sends the course's message to taro, taro reads it, under a policy. Raises UnknownPolicy, EngineUnavailable."""
    with Provider(policy, repeatable=True) as provider, provider.capture(engine) as capture:
        hanako, taro = provider.accounts["hanako"], provider.accounts["taro"]
        provider.client("hanako").send(sample_message(hanako, taro))
        provider.client("taro").receive()
    return Exchange(provider.policy, capture)


class Comparison(View):
    """The same exchange under several policies, side by side."""

    def __init__(self, exchanges: tuple[Exchange, ...]) -> None:
        self.exchanges = exchanges
        self.captures = {item.policy.name: item.capture for item in exchanges}

    @property
    def engine(self) -> str:
        """What made the packets."""
        return self.exchanges[0].capture.engine

    @property
    def _sessions(self) -> tuple[ShownSession, ...]:
        return tuple(item.session for item in self.exchanges)

    @property
    def view(self) -> ComparisonView:
        """Dialogue, exposure and cost, side by side."""
        return ComparisonView(self._sessions)

    def ladder(self) -> Figure:
        """The dialogues as arrows, one lane a policy."""
        return Ladder(self._sessions, engine=self.engine)

    def strip(self) -> Figure:
        """What share of the bytes anybody could read, one bar a policy."""
        return Strip(self._sessions, engine=self.engine)

    def report(self) -> dict[str, Any]:
        """All of it as plain data, for JSON; the README documents the shape."""
        return {"sessions": [{"policy": item.policy.name, **item.capture.report()} for item in self.exchanges]}

    def save(self, folder: Path) -> None:
        """Write each session as FOLDER/POLICY.pcapng. Raises BadSetting when the folder cannot be made."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BadSetting(_("{path} cannot be made: {why}.").format(path=folder, why=error.strerror)) from None
        for item in self.exchanges:
            item.capture.save(folder / f"{item.policy.name}.pcapng")

    def text(self, *, exact: bool = False, width: int | None = None) -> str:
        """In plain text. exact: with packet counts and TLS sizes, which differ between machines. width: of a terminal."""
        return ComparisonView(self._sessions, exact=exact, width=width or TEXT_WIDTH).text()

    def page(self) -> str:
        """One self-contained HTML page with all of it."""
        parts = [ComparisonView(self._sessions, exact=True), self.ladder(), self.strip()]
        return page(_("Mail on the wire, side by side"), parts, engine=self.engine)

    def body(self) -> Markup:
        return self.view.body()


def compare(*policies: Policy | str, engine: str = "auto") -> Comparison:
    """Run the same exchange under each policy (the article's four when none is named) and put them side by side.

    engine: "auto", "tap" or "live". Raises UnknownPolicy and EngineUnavailable before anything is run.
    """
    chosen = [resolve(policy) for policy in policies or FOUR]
    return Comparison(tuple(exchange(policy, engine=engine) for policy in chosen))
