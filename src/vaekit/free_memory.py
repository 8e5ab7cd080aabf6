"""How much memory this process can still take: what is known to be larger is refused before it is begun."""

import math
import os
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def free_bytes() -> float:
    """Bytes of memory that can still be taken; infinite where the system says nothing.

    The least of what the machine has free, what the process's own limits (`ulimit -v`, `ulimit -d`) leave, and what its
    control groups leave.
    """
    return max(0.0, min(_machine(), _process(), _group()))


def in_gb(size: float) -> str:
    """A number of bytes in words, at three digits."""
    return f"{size / 1e9:,.3g} GB" if size < 1e12 else f"{size / 1e9:,.0f} GB"


def _machine() -> float:
    lines = _read(Path("/proc/meminfo")).splitlines()
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024.0
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return math.inf


def _process() -> float:
    try:
        import resource
    except ImportError:  # not on this system
        return math.inf
    pages = _read(Path("/proc/self/statm")).split()
    if len(pages) < 6:
        return math.inf
    page, left = os.sysconf("SC_PAGE_SIZE"), math.inf
    for limit, taken in ((resource.RLIMIT_AS, pages[0]), (resource.RLIMIT_DATA, pages[5])):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            left = min(left, soft - int(taken) * page)
    return left


def _group() -> float:
    """What the control group of the process and those above it leave; what files fill can be had back."""
    left = math.inf
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = _CGROUPS / controllers
        names = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            if controllers
            else ("memory.max", "memory.current", "inactive_file")
        )
        place = root / path.lstrip("/")
        while place == root or root in place.parents:
            left = min(left, _left_in(place, *names))
            place = place.parent
    return left


def _left_in(place: Path, most: str, taken: str, cached: str) -> float:
    limit, current = _read(place / most).strip(), _read(place / taken).strip()
    if not (limit.isdigit() and current.isdigit()):
        return math.inf
    stat = dict(line.split(" ", 1) for line in _read(place / "memory.stat").splitlines() if " " in line)
    return int(limit) - int(current) + int(stat.get(cached, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
