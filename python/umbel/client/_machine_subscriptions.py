"""The channels of a client: positions, and several subscriptions to one channel.

A channel has a position: its next update from the server continues that. Each of its subscriptions has a
position of its own, and gets what comes after that. A subscription whose position is before that of the
channel, or that has none yet, needs the channel to be subscribed anew, with ``restart``, at its position.
"""

from collections.abc import Callable
from typing import Final

from ._machine_channels import Channel, Subscription, forget, position_of
from ._machine_line import JSON, Line


class Subscriptions:
    """The channels, by their names. The private channel is ``@`` here, whatever the client's id is.

    Attributes:
        again: the server failed to say whether some channels can be had: they have to be asked for later.
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._private = "@"  # on the wire
        self._channels: dict[str, Channel] = {}
        self._of: dict[int, Channel] = {}
        self._leaving: dict[str, int] = {}  # what the server may not know yet; 0 when it was not told
        self.again = False

    def subscribe(self, name: str, epoch: str, offset: int) -> int:
        return self._add(self._channel(self._private if name.startswith("@") else name), epoch, offset)

    def unsubscribe(self, id: int) -> None:
        if channel := self._of.pop(id, None):
            channel.subscriptions = [it for it in channel.subscriptions if it.id != id]
            self._leave_if_empty(channel)

    def attach(self, message: JSON, stop: bool) -> int:
        """Begin the subscription to a run, with the answer to its request. A run is read from its start."""
        channel = self._channel(message["channel"])
        epoch, offset = position_of(message, "offset")
        if not channel.live:
            channel.live, channel.epoch, channel.offset = True, epoch, offset
        if not stop:
            return self._add(channel, epoch, 0, begun=True)
        self._line.send({"type": "ai_cancel", "data": {"runId": channel.name[len("run:") :]}})
        self._leave_if_empty(channel)
        return 0

    def batch(self, updates: list[JSON]) -> None:
        """Hand out updates. The positions move first."""
        if self._plain(updates):
            return
        ready: dict[int, list[JSON]] = {}
        try:
            for update in updates:
                channel = self._find(update["channel"])
                if channel is None or not channel.live:
                    continue
                before, offset = channel.offset, update["offset"]
                if update.get("from", offset - 1) != before or offset <= before:
                    self._mend(channel, f"an update to {offset} came after {before}")
                    continue
                channel.offset = offset
                for it in channel.subscriptions:
                    if before <= it.offset < offset and it.epoch == channel.epoch and it.begun:
                        it.offset = offset
                        ready.setdefault(it.id, []).append(update)
        finally:
            for key, those in ready.items():
                self._line.act("updates", key, those)

    def gap(self, message: JSON) -> None:
        channel = self._find(message["channel"])
        if channel is None or not channel.live:
            return
        epoch, before = channel.epoch, channel.offset
        (after, to), top = position_of(message, "to"), message.get("top")
        if message["from"] != before:
            self._mend(channel, f"a gap from {message['from']} came after {before}")
            return
        channel.epoch, channel.offset = after, to
        for it in channel.subscriptions:
            known = it.epoch == epoch
            # With a top it is a state, all of which follows: wherever they were.
            if not it.begun or (top is None and (not known or it.offset < before)):
                continue
            if message["reason"] == "turn":
                self._lost(channel, it, "turn", it.offset)
            elif top is not None or epoch != after or it.offset < to:
                self._lost(channel, it, message["reason"], to, known, top)

    def established(self, message: JSON) -> None:
        name, answer = message["channel"], message.get("id", 0)
        if not self._find(name) and (answer or name in self._leaving):
            return  # the answer to a wish of the past
        channel = self._channel(name)
        if answer != (channel.asked or 0) or (channel.asked is None and channel.live):
            return
        named, away = channel.named, not channel.live
        channel.asked = channel.named = None
        channel.live = True
        channel.epoch, channel.offset = position_of(message, "offset")
        recovered, reason = message.get("recovered", not named), message.get("reason", "epoch")
        channel.state = bool(message.get("state"))
        anew = channel.state and not recovered
        for it in channel.subscriptions:
            if anew:
                # All of the state follows, for all of them: nobody says what was removed.
                lost = reason if it.epoch else it.reason or reason
                self._place(channel, it, message["top"], False, lost, away, anew)
                continue
            # An answer speaks of the log that was named, from the position that was named up to the top.
            if named and it.epoch == named[0] and named[1] <= it.offset <= max(named[1], message["top"]):
                kept = recovered or (reason == "trimmed" and it.offset >= channel.offset)
                self._place(channel, it, message["top"], kept, reason, away)
            elif not named and not it.epoch:
                self._place(channel, it, message["top"], False, it.reason, away)
        self._ask(channel)

    def ended(self, message: JSON) -> None:
        name = message["channel"]
        channel = self._find(name)
        if "id" in message:
            self._left(name, message["id"])
        elif channel:
            channel.live, channel.epoch = False, ""
            # A newcomer may have asked for the channel, and waits for the answer to that.
            channel.asked = channel.asked or None
            waits = channel.asked is not None
            self._end(channel, {"reason": message["reason"]}, lambda it: it.begun or not waits)

    def error(self, message: JSON) -> None:
        """A channel can't be had, or the server failed to say whether it can."""
        name, answer = message.get("channel"), message.get("id", 0)
        channel = self._find(name) if name is not None else None
        if name is not None:
            self._left(name, answer)
        concerned = [channel] if channel else list(self._channels.values()) if answer else []
        for it in concerned:
            if it.asked is not None and it.asked == answer:
                self._refused(it, message)

    def resume(self) -> JSON:
        """The positions for the first message of a connection, which asks for these channels."""
        positions = {}
        for channel in self._channels.values():
            own = [it for it in channel.subscriptions if it.epoch]
            epoch = own[0].epoch if own else channel.epoch
            if epoch:
                offset = min((it.offset for it in own if it.epoch == epoch), default=channel.offset)
                channel.asked, channel.named = 0, (epoch, offset)
                positions[self._private if channel.name == "@" else channel.name] = {
                    "epoch": epoch,
                    "offset": offset,
                }
        return positions

    def connected(self, client_id: str, resuming: bool, same: bool) -> None:
        """Ask for what the first message has not asked for. The positions of another subject are not kept."""
        private, self._private = self._private, f"@{client_id}"
        if private != self._private and (channel := self._channels.get("@")):
            forget(channel, "session_lost")
        for channel in list(self._channels.values()):
            if not same:
                forget(channel, "subject")
            if not channel.subscriptions and not (resuming and same):
                # The server had subscribed the client. It does so again if it wants to.
                del self._channels[channel.name]
                if channel.name != "@":
                    self._leaving[channel.name] = 0
        leaving, self._leaving = self._leaving, {}
        for name in leaving:
            if resuming and name not in self._channels:
                self._say_leave(name)
        self.ask_all()

    def disconnected(self) -> None:
        self.again = False
        for channel in self._channels.values():
            channel.live = channel.mended = False
            channel.asked = channel.named = None

    def end_all(self, reason: JSON) -> None:
        for channel in list(self._channels.values()):
            self._end(channel, reason, lambda _: True)
        self.__init__(self._line)  # type: ignore[misc]

    def ask_all(self) -> None:
        """Ask for all channels that need it. Many newcomers are one message."""
        self.again = False
        new: list[Channel] = []
        for channel in self._channels.values():
            self._ask(channel, new)
        for start in range(0, len(new), MOST_AT_ONCE):
            self._ask_new(new[start : start + MOST_AT_ONCE])

    def _plain(self, updates: list[JSON]) -> bool:
        """Hand out the usual batch, of one channel and without holes: as `batch` does, in a tenth of the
        time.
        """
        name = updates[0]["channel"] if updates else ""
        channel = self._find(name)
        if channel is None or not channel.live:
            return False
        before = after = channel.offset
        try:
            for update in updates:
                after += 1
                if update["channel"] != name or update["offset"] != after:
                    return False
        except KeyError:
            return False
        readers = [it for it in channel.subscriptions if it.begun and it.epoch == channel.epoch]
        if [it for it in readers if it.offset != before and it.offset < after]:
            return False
        channel.offset = after
        for it in readers:
            if it.offset == before:
                it.offset = after
                self._line.act("updates", it.id, updates)
        return True

    def _find(self, name: str) -> Channel | None:
        return self._channels.get("@" if name == self._private else name)

    def _channel(self, name: str) -> Channel:
        name = "@" if name == self._private else name
        return self._channels.setdefault(name, Channel(name))

    def _add(self, channel: Channel, epoch: str, offset: int, begun: bool = False) -> int:
        it = Subscription(self._line.number(), epoch, offset, begun)
        channel.subscriptions.append(it)
        self._of[it.id] = channel
        self._ask(channel)
        return it.id

    def _ask(self, channel: Channel, new: list[Channel] | None = None) -> None:
        """Ask for a channel anew, if a subscription needs it; later on for those that are put into `new`."""
        if not self._line.connected or channel.asked is not None:
            return
        for it in channel.subscriptions:
            if it.offset < 0 and channel.live:
                it.epoch, it.offset, it.begun = channel.epoch, channel.offset, True
        needy = [
            it
            for it in channel.subscriptions
            if not (it.begun and channel.live and it.epoch == channel.epoch and it.offset >= channel.offset)
        ]
        if channel.name == "@":
            # Nobody can subscribe to it: it is there from the first direct message on.
            for it in needy if channel.live else []:
                known = it.epoch == channel.epoch
                self._place(channel, it, channel.offset, False, "overrun" if known else "epoch", False)
        elif not all(it.epoch for it in needy):
            if new is None:
                self._ask_new([channel])
            else:
                new.append(channel)
        elif needy:
            epoch = needy[0].epoch
            self._ask_from(channel, epoch, min(it.offset for it in needy if it.epoch == epoch))

    def _ask_new(self, channels: list[Channel]) -> None:
        number, names = self._line.number(), [channel.name for channel in channels]
        for channel in channels:
            channel.asked = number
        self._line.send({"type": "subscribe_updates", "id": number, "channels": names, "restart": True})

    def _ask_from(self, channel: Channel, epoch: str, offset: int) -> None:
        channel.asked, channel.named = self._line.number(), (epoch, offset)
        message = {"type": "subscribe_updates", "id": channel.asked, "channel": channel.name, "restart": True}
        self._line.send({**message, "epoch": epoch, "offset": offset})

    def _place(
        self,
        channel: Channel,
        it: Subscription,
        top: int,
        kept: bool,
        reason: str,
        away: bool,
        anew: bool = False,
    ) -> None:
        """Give a subscription its position after an answer: its own when that is kept, or the channel's."""
        newcomer = not (it.begun or it.epoch or it.reason)
        offset = it.offset if kept else channel.offset
        if away or not it.begun:
            told = {"state": True} if channel.state else {}
            if not newcomer:
                told["recovered"] = kept
            position = {"epoch": channel.epoch, "offset": offset}
            self._line.act("begun", it.id, {"position": position, "top": top, **told})
        it.begun = True
        if kept or newcomer:
            it.epoch, it.offset = channel.epoch, offset
        elif anew:
            self._lost(channel, it, reason, offset, False, top)
        else:
            self._lost(channel, it, reason, offset, reason in ("trimmed", "overrun"))

    def _lost(
        self,
        channel: Channel,
        it: Subscription,
        reason: str,
        to: int,
        known: bool = True,
        top: int | None = None,
    ) -> None:
        start = it.offset if known else None
        it.epoch, it.offset = channel.epoch, to
        gap = {"reason": reason, "epoch": it.epoch, "from": start, "to": to}
        self._line.act("gap", it.id, gap if top is None else {**gap, "top": top})

    def _mend(self, channel: Channel, defect: str) -> None:
        """What the server says of a channel does not continue its position: begin there anew.

        Raises:
            ValueError: if that did not help on this connection.
        """
        if channel.asked is not None:
            return
        defect = f"the server has a defect: in {channel.name}, {defect}"
        if channel.mended or channel.name == "@":
            raise ValueError(defect)
        self._line.act("warn", defect)
        channel.mended = True
        self._ask_from(channel, channel.epoch, channel.offset)

    def _refused(self, channel: Channel, message: JSON) -> None:
        channel.asked = channel.named = None
        later = message["code"] in ("timeout", "internal")
        reason = {"reason": message["message"], "code": message["code"]}
        self._end(channel, reason, lambda it: not (it.begun and later))
        self.again = self.again or bool(channel.subscriptions)

    def _end(self, channel: Channel, reason: JSON, ends: Callable[[Subscription], bool]) -> None:
        those = [it for it in channel.subscriptions if ends(it)]
        channel.subscriptions = [it for it in channel.subscriptions if not ends(it)]
        for it in those:
            self._of.pop(it.id, None)
            self._line.act("ended", it.id, reason)
        self._leave_if_empty(channel)

    def _leave_if_empty(self, channel: Channel) -> None:
        if channel.subscriptions or channel.name == "@":
            return
        del self._channels[channel.name]
        if not self._line.connected:
            self._leaving[channel.name] = 0
        elif channel.live or channel.asked is not None:
            self._say_leave(channel.name)

    def _say_leave(self, name: str) -> None:
        number = self._leaving[name] = self._line.number()
        self._line.send({"type": "unsubscribe_updates", "id": number, "channel": name})

    def _left(self, name: str, answer: int) -> None:
        if self._leaving.get(name) == answer:
            del self._leaving[name]


MOST_AT_ONCE: Final = 128
"""Channels that one message may name."""
