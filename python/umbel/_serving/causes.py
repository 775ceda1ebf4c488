"""Errors of the operating system when a server starts: the cause, and what to do."""

import errno
import os
import re
from pathlib import Path
from typing import Final

from umbel._declaring.settings import Settings


def explain(error: OSError, settings: Settings) -> str:
    """Return the cause of an error at the start, and what to do."""
    where, port, option = settings.unix_socket or f"{settings.host}:{settings.port}", settings.port, "--port"
    admin = settings.admin or ""
    admin_port = int(admin.rpartition(":")[2] or -1)
    is_admin = admin != "" and f"can't listen on {admin}:" in str(error)
    if is_admin:
        where, port, option = admin, admin_port, "--admin"
    number = error.errno
    if number is None and (found := re.search(r"\(os error (\d+)\)", str(error))):  # from the core
        number = int(found[1])
    if number == errno.EADDRINUSE:
        if settings.unix_socket and not is_admin:
            return (
                f"{where} is in use: another server listens there. Stop it, or choose another --unix-socket"
            )
        holder = holder_of(port)
        if holder is None and settings.port == admin_port and not settings.unix_socket:
            return f"--port and --admin are both {port}: choose two ports"
        holder = holder or "another program (`ss -ltnp` as root names it)"
        return f"port {port} is taken by {holder}. Stop it, or choose another port with {option}"
    if number in (errno.EACCES, errno.EPERM):
        if settings.unix_socket and not is_admin:
            return f"no permission to make {where}: choose a directory that this user may write to"
        return (
            f"no permission to listen on {where}: ports below 1024 need privileges; choose a {option} above"
        )
    if number == errno.EADDRNOTAVAIL:
        if is_admin:
            return f"{where} is not an address of this machine: use --admin 127.0.0.1:8001"
        return f"{settings.host} is not an address of this machine: use --host 127.0.0.1, or 0.0.0.0 for all"
    if number in (errno.EMFILE, errno.ENFILE):
        return "no file descriptors are left: raise the limit (ulimit -n)"
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)


def holder_of(port: int) -> str | None:
    """Return the name and process id of the program that listens on a TCP port, if Linux shows it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if inodes else ():
        try:
            if os.readlink(descriptor) in inodes:
                process = descriptor.parent.parent
                return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return None


LISTENING: Final = "0A"
"""TCP_LISTEN in /proc/net/tcp."""
