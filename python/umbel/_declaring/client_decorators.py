"""The decorators for who a client is, and for its coming and going."""

from collections.abc import Callable
from typing import TypeVar, overload

from umbel.exceptions import ConfigurationError

from .declarations import Authenticate, Connect, Declarations, Disconnect, Told
from .functions import check_function, check_name, in_thread
from .jwt import JWT
from .settings import Settings

A = TypeVar("A", bound=Authenticate)
C = TypeVar("C", bound=Connect)
D = TypeVar("D", bound=Disconnect)
T = TypeVar("T", bound=Told)


class ClientDecorators:
    """What is declared about clients, whatever they say. A mistake is refused at the line that makes it."""

    def __init__(self, settings: Settings, auth: JWT | None) -> None:
        self.settings = settings
        self._declared = Declarations(auth=auth)

    @property
    def auth(self) -> JWT | None:
        """What verifies the tokens of clients, as it was given."""
        return self._declared.auth

    @overload
    def authenticate(self, function: A) -> A: ...

    @overload
    def authenticate(self, *, thread: bool = False) -> Callable[[A], A]: ...

    def authenticate(self, function: A | None = None, *, thread: bool = False) -> A | Callable[[A], A]:
        """Declare the function that says who a client is: ``f(request)``.

        It is called once for each connection, before any other function, on websocket paths too. It returns

        - an `Identity`;
        - a ``str``, the subject of the identity;
        - a mapping, the claims of the identity; the claim ``sub`` is the subject;
        - ``None`` to refuse the client with close code 4401.

        It may also raise `Refused`, with a close code and a reason. Without an authenticate function every
        client is let in and is anonymous. For JSON Web Tokens use ``Umbel(auth=JWT(…))`` instead: then nobody
        waits for Python.

        A connection that is not let in within the setting ``handshake_timeout`` is closed. The time begins
        when the server accepts the connection, so the time for the request counts too.

        Args:
            function: the function.
            thread: call it in a thread, because it blocks: ``@app.authenticate(thread=True)``.

        Raises:
            ConfigurationError: if there is an authenticate function already, or ``auth=``, or the function
                does not fit.
            RuntimeError: if the application is being served.
        """

        def decorate(function: A) -> A:
            self._declared.check(self._declared.authenticate, "authenticate")
            if self._declared.auth is not None:
                raise ConfigurationError(
                    "auth=JWT(…) says who clients are, so an authenticate function would never be asked: "
                    "remove one of the two"
                )
            role = "the authenticate function"
            check_function(function, role, ("request",))
            self._declared.authenticate = in_thread(function, role) if thread else function
            return function

        return decorate if function is None else decorate(function)

    def on_connect(self, function: C) -> C:
        """Declare the function that is called for each client that was let in: ``f(client)``.

        No message of the client is handled before this function has ended. When it raises `Refused`, the
        client is closed with that code and reason. When it raises another error, or takes longer than the
        setting ``handler_timeout``, the client is closed with 1011.

        Raises:
            ConfigurationError: if there is an on_connect function already, or the function does not fit.
            RuntimeError: if the application is being served.
        """
        self._declared.check(self._declared.connect, "on_connect")
        check_function(function, "the on_connect function", ("client",))
        self._declared.connect = function
        return function

    def on_disconnect(self, function: D) -> D:
        """Declare the function that is called when a client has left: ``f(client, code, reason)``.

        It is called once for each client, after ``on_connect`` succeeded, and after a function was started
        for each message that the client sent. Those functions may still run. A client that was refused, or
        whose ``on_connect`` failed, gets no call.

        When the application closes a client with ``client.close()``, messages of the client that wait are
        dropped, and this function is called without them.

        Raises:
            ConfigurationError: if there is an on_disconnect function already, or the function does not fit.
            RuntimeError: if the application is being served.
        """
        self._declared.check(self._declared.disconnect, "on_disconnect")
        check_function(function, "the on_disconnect function", ("client", "code", "reason"))
        self._declared.disconnect = function
        return function

    def on_away(self, function: D) -> D:
        """Declare the function that is called when a client has lost its connection: ``f(client, code,
        reason)``.

        The client may come back within the setting ``session_ttl``: then ``on_back`` is called, otherwise
        ``on_disconnect``. Only clients that can come back are away. A client whose new connection comes
        before the old one has ended is never away. One that has come back before this function was started
        was not away for the application either: neither function is called.

        Raises:
            ConfigurationError: if there is an on_away function already, or the function does not fit.
            RuntimeError: if the application is being served.
        """
        self._declared.check(self._declared.away, "on_away")
        check_function(function, "the on_away function", ("client", "code", "reason"))
        self._declared.away = function
        return function

    def on_back(self, function: C) -> C:
        """Declare the function that is called when a client that was away has come back: ``f(client)``.

        It is started after ``on_away``, and may run at the same time if that waits for something: look at
        ``client.connected`` after an ``await``.

        Raises:
            ConfigurationError: if there is an on_back function already, or the function does not fit.
            RuntimeError: if the application is being served.
        """
        self._declared.check(self._declared.back, "on_back")
        check_function(function, "the on_back function", ("client",))
        self._declared.back = function
        return function

    def on_presence(self, pattern: str, *, thread: bool = False) -> Callable[[T], T]:
        """Declare the function that hears who comes to a channel and who leaves: ``f(change, <parameters>)``.

        It gets a `PresenceChange` with all that happened in one channel within a moment (the setting
        ``presence_interval``), also where the members are counted and not listed. A client that has lost its
        connection leaves when it has not come back within ``presence_grace``, or when its session ends. Use
        it to release what a client holds.

        For one channel the calls come one after another: what happens while the function runs is gathered for
        the next call. When it raises an error, the log has it. It may take ``handler_timeout``.

        Args:
            pattern: that of a declaration with ``presence=``, which comes before this one.
            thread: call the function in a thread, because it blocks.

        Raises:
            ConfigurationError: if there is no such declaration, it has a function already, or the function
                does not fit.
            RuntimeError: if the application is being served.
            TypeError: if the pattern is not a str.
        """
        check_name(pattern, "on_presence", "room:{id}")
        self._declared.check()

        def decorate(function: T) -> T:
            self._declared.channel(pattern).tell(function, thread=thread)
            return function

        return decorate
