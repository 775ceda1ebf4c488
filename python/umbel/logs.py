"""The log as lines of JSON, for programs that collect logs.

``umbel run --log-format json`` and ``app.run(log_format="json")`` write it so. Where the application
configures logging itself, it gives the formatter to its handler:

    >>> import logging
    >>> from umbel.logs import JsonFormatter
    >>> handler = logging.StreamHandler()
    >>> handler.setFormatter(JsonFormatter())
    >>> print(handler.format(logging.makeLogRecord({"name": "umbel", "levelname": "INFO", "msg": "stopped"})))
    {"time": "...Z", "level": "INFO", "logger": "umbel", "message": "stopped"}
"""

import json
import logging
import traceback
from datetime import UTC, datetime

__all__ = ["JsonFormatter"]


class JsonFormatter(logging.Formatter):
    """Makes one line of JSON of each record. It is ASCII, so nothing in it ends the line or moves the cursor.

    Fields: ``time`` (UTC, RFC 3339), ``level``, ``logger``, ``message``. Where they are known: ``clientId``,
    ``connection`` (the number of one connection to the server) and ``incident``, which is also in what the
    client was told. ``exception`` is the traceback, ``stack`` what ``stack_info=True`` gives.

    It works for records of every logger. Those of Umbel have the three fields about clients in one attribute,
    ``umbel``, for formatters of your own.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end. A record that has no text is named instead."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
        }
        error = self.formatException(record.exc_info) if record.exc_info else record.exc_text
        try:
            line["message"] = record.getMessage()
        except Exception:
            line["message"] = f"{record.pathname}:{record.lineno} logs what has no text"
            error = traceback.format_exc().rstrip()
        about = getattr(record, "umbel", None)
        if isinstance(about, dict):
            line |= {name: about[name] for name in ABOUT if name in about}
        if error:
            line["exception"] = error
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line, default=str)


ABOUT = ("clientId", "connection", "incident")
"""What may be known of a record, in this order."""
