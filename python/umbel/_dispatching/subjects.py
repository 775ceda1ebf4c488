"""What an application does with the clients of a subject, however they came."""

from abc import ABC, abstractmethod
from time import time

from umbel._clients.client import Client
from umbel._clients.identity import Identity
from umbel._declaring.jwt import JWT
from umbel.exceptions import NOT_ALLOWED, REVOKED, Refused
from umbel.presence import Present

from .dispatcher import Dispatcher


class Subjects(ABC):
    """The part of an application that is about who is there."""

    @abstractmethod
    def _running(self) -> Dispatcher:
        """Return the dispatcher of the server.

        Raises:
            RuntimeError: if the application is not being served.
        """

    @property
    @abstractmethod
    def auth(self) -> JWT | None:
        """What verifies the tokens of clients, as it was given."""

    def clients(self, subject: str | None = None) -> list[Client]:
        """Return the clients that are connected now, in the order in which they came.

        A client is there from the end of ``authenticate`` and ``on_connect`` until its connection has ended
        or the application has closed it. Connections of websocket paths are not among them. May be called
        from any thread; a client may leave while you look at the list. The cost is linear in the number of
        all clients: ask once for many, not once for each.

        Args:
            subject: only the clients whose identity has this subject; ``""`` for anonymous ones.

        Raises:
            RuntimeError: if the application is not being served, or has no function that is about clients:
                then the server does not know them.
        """
        return self._running().clients(subject)

    async def presence(self, channel: str) -> dict[str, list[Present]]:
        """Return who is in a channel that is declared with ``presence=``, by subject.

        A subject may be there several times, with a session for each of its pages; anonymous clients have the
        subject ``""``. Who is hidden is not among them. The cost is linear in the number of members. May be
        called on any event loop.

        Raises:
            ValueError: if there can be no such channel, or it is declared without ``presence=``.
            RuntimeError: if the application is not being served.

        Example:
            >>> from umbel import Umbel
            >>> app = Umbel()
            >>> app.channel("room:{id}", open=True, presence=True)
            <...>
            >>> @app.on("who")
            ... async def who(client, message):
            ...     return list(await app.presence("room:1"))
        """
        found: dict[str, list[Present]] = {}
        for member in map(Present.of, self._running().presence(channel)):
            found.setdefault(member.subject, []).append(member)
        return found

    def disconnect(self, subject: str, code: int = NOT_ALLOWED, reason: str = "") -> int:
        """Close all connections of a subject, those of websocket paths, too.

        As `Client.close` does: after what was sent before, and messages that wait for their turn are dropped.
        A connection that ``authenticate`` is deciding about now is refused with the same code when it turns
        out to be one of this subject, because what ``authenticate`` has read may be out of date. So change
        what ``authenticate`` reads first, and disconnect then. Connections that come later are
        ``authenticate``'s to refuse. Tickets of the subject end. Runs that it has started go on.

        May be called from any thread. The cost is linear in the number of all clients.

        Args:
            subject: that of the `Identity`.
            code: by default 4500, which tells the client not to come back. With 4401 it gets new credentials
                and comes back.
            reason: at most 123 bytes of UTF-8.

        Returns:
            How many connections are being closed, without those that ``authenticate`` is deciding about. With
            ``auth=JWT(…)`` clients are closed, too, that Python does not know; they are not counted.

        Raises:
            ValueError: if the subject is empty, because anonymous clients have nothing in common; if the code
                may not be sent, or the reason is too long.
            RuntimeError: if the application is not being served.
        """
        if not subject:
            raise ValueError("an empty subject is that of all anonymous clients: close each of app.clients()")
        refusal = Refused(code, reason)
        return self._running().disconnect(subject, refusal.code, refusal.reason)

    def ticket(self, identity: Identity, *, origin: str | None = None) -> str:
        """Give a ticket for one event stream: ``new EventSource(`/api/v1/stream/news?ticket=${ticket}`)``.

        For pages whose credentials are not a cookie, because an ``EventSource`` can send no header. The
        stream is that of this identity, as if ``authenticate`` had returned it. It is not called.

        The ticket opens one stream, within 30 seconds. After that it counts only together with what the
        browser has heard last, so that it is worth nothing in a log. The browser comes back with it until the
        identity expires, `revoke` or `disconnect` ends it, or ten minutes have passed without the stream.
        `docs/event-streams.md` says what a page does then. Give each stream a ticket of its own.

        May be called from any thread. Costs some microseconds.

        Args:
            identity: whom the ticket stands for: an `Identity` with a subject, as ``client.identity`` is.
                Subject and claims have at most 2,000 bytes as JSON.
            origin: the ``Origin`` of the request that asks for the ticket, if it has one. Then a page of
                another origin can't use it.

        Raises:
            ConfigurationError: if the application has neither ``auth=`` nor ``authenticate``: who a client is
                makes no difference there.
            TypeError: if the identity is none, or its claims can't be encoded as JSON.
            ValueError: if the identity has no subject, has expired, or is too long.
            RuntimeError: if the application is not being served; or if this identity has too many open
                streams with tickets (``max_tickets_per_identity``), or all identities together have.

        Example:
            >>> from umbel import Client, Umbel
            >>> app = Umbel()
            >>> @app.on("ticket")
            ... def ticket(client: Client, message):
            ...     return app.ticket(client.identity)
        """
        if not isinstance(identity, Identity):
            raise TypeError(f"a ticket is for an Identity, not for {type(identity).__name__}")
        if not isinstance(origin, str | None):
            raise TypeError(f"origin must be a str or None, not {type(origin).__name__}")
        return self._running().ticket(identity, origin)

    def revoke(self, subject: str) -> None:
        """End all that a subject has, for good: for an account that was locked, or a token that was stolen.

        Its connections are closed with 4501, which tells clients not to come back. Its tickets end, and its
        sessions, also those of clients that are away. With ``auth=JWT(…)`` its tokens do not count any more
        that were issued in this second or before, or do not say when (``iat``): who shows one gets 4401, and
        needs a new one. So tell your issuer first. Without ``auth=`` it is as with `disconnect`:
        ``authenticate`` refuses those who come later.

        Runs that the subject has started go on. A server that is started again has forgotten it: tokens that
        were issued before count again until they expire. Other servers do not hear of it.

        May be called from any thread. It looks at every client of the server, as `disconnect` does.

        Args:
            subject: that of the `Identity`.

        Raises:
            ValueError: if the subject is empty, because anonymous clients have nothing in common.
            RuntimeError: if the application is not being served; or if 100,000 subjects were revoked within
                ``max_lifetime`` of `JWT`, so that no more can be remembered. Then nothing has changed.
        """
        if not subject:
            raise ValueError("an empty subject is that of all anonymous clients: close each of app.clients()")
        dispatcher = self._running()
        if self.auth is not None:
            # First, so that a token that is verified meanwhile is refused, or its client is found.
            self.auth._verifier.revoke(subject, time())
        dispatcher.disconnect(subject, REVOKED, "access was revoked")
