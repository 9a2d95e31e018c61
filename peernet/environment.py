"""check_environment: whether the process around a network is fit for it. Looks, and changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from peernet.errors import ConfigurationError

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None  # type: ignore[assignment]

MIN_PYTHON = (3, 10)
# OpenSSL 1.1.1 is the first with TLS 1.3, which peernet needs.
MIN_OPENSSL = 0x1010100F
# Room for a hundred channels beside what a program opens anyway.
MIN_DESCRIPTORS = 256

# What peernet imports -> the distribution that has it.
DEPENDENCIES = {
    "click": "click",
    "cryptography": "cryptography",
    "gevent": "gevent",
    "google.protobuf": "protobuf",
    "OpenSSL": "pyOpenSSL",
    "platformdirs": "platformdirs",
    "psutil": "psutil",
    "rich": "rich",
}

# The modules whose blocking calls stop every greenlet unless they are patched.
PATCHABLE = ("queue", "socket", "select", "selectors", "ssl", "subprocess", "threading", "time")
# What programs import by name most, so that patching afterwards misses it.
OFTEN_IMPORTED = {
    "socket": ("socket", "create_connection", "getaddrinfo"),
    "select": ("select", "poll"),
    "subprocess": ("Popen", "run", "check_output"),
    "threading": ("Lock", "RLock", "Event", "Condition", "Thread"),
    "queue": ("Queue", "SimpleQueue"),
    "time": ("sleep",),
}
# These hold originals on purpose.
EXEMPT = frozenset(sys.stdlib_module_names | {"gevent", "greenlet", "zope", "peernet"})


@dataclass(frozen=True)
class Finding:
    """What was found out about one thing.

    Attributes:
        name: what was looked at.
        ok: whether it is as it should be.
        level: ``info``, ``warning`` (works, but not as you may expect) or ``error`` (does not work).
        message: what was found, and what to do about it if it is not ok.
    """

    name: str
    ok: bool
    level: str
    message: str


def check_environment() -> list[Finding]:
    """Look at Python, the libraries, the limits, and at what gevent has patched in this process."""
    return [
        _python(),
        *_dependencies(),
        _protobuf(),
        _openssl(),
        _patches(),
        *_late_patches(),
        _descriptors(),
    ]


def require_fast_protobuf() -> None:
    """
    Raises:
        ConfigurationError: protobuf parses in pure Python, so that any peer could keep the process busy.
    """
    finding = _protobuf()
    if not finding.ok:
        raise ConfigurationError(f"{finding.name}: {finding.message}")


def _good(name: str, message: str) -> Finding:
    return Finding(name, True, "info", message)


def _warning(name: str, message: str) -> Finding:
    return Finding(name, False, "warning", message)


def _error(name: str, message: str) -> Finding:
    return Finding(name, False, "error", message)


def _python() -> Finding:
    found = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < MIN_PYTHON:
        return _error("python", f"Python {found} is too old; use {'.'.join(map(str, MIN_PYTHON))} or newer")
    return _good("python", f"Python {found}")


def _dependencies() -> Iterator[Finding]:
    for module, distribution in DEPENDENCIES.items():
        try:
            import_module(module)
            yield _good(distribution, version(distribution))
        except ImportError as error:
            yield _error(distribution, f"cannot be imported ({error}); run `pip install {distribution}`")
        except PackageNotFoundError:
            yield _good(distribution, "can be imported; its version is not recorded")


def _protobuf() -> Finding:
    name = "protobuf runtime"
    try:
        from google.protobuf.internal import api_implementation
    except ImportError as error:
        return _error(name, f"cannot be imported ({error}); run `pip install protobuf`")
    kind = api_implementation.Type()
    if kind == "python":
        # One hostile packet of 1 MiB keeps it busy for seconds.
        return _error(name, "the slow one in pure Python; unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION, or reinstall")
    return _good(name, kind)


def _openssl() -> Finding:
    try:
        from OpenSSL import SSL
    except ImportError as error:
        return _error("TLS 1.3", f"pyOpenSSL cannot be imported ({error}); run `pip install pyOpenSSL`")
    found = SSL.SSLeay_version(SSL.SSLEAY_VERSION).decode()
    if SSL.OPENSSL_VERSION_NUMBER < MIN_OPENSSL or not hasattr(SSL, "TLS1_3_VERSION"):
        return _error("TLS 1.3", f"{found} has no TLS 1.3; update cryptography and pyOpenSSL")
    return _good("TLS 1.3", found)


def _patches() -> Finding:
    """What gevent has patched in this process: everything and nothing are fine, a part is not."""
    name = "gevent patches"
    monkey = sys.modules.get("gevent.monkey")
    patched = [module for module in PATCHABLE if monkey is not None and monkey.is_module_patched(module)]
    missing = [module for module in PATCHABLE if module not in patched]
    if not missing:
        return _good(name, "the standard library is patched: blocking calls of this program let greenlets run")
    if patched:
        return _warning(
            name,
            f"half patched: {', '.join(missing)} are not, so their blocking calls stop every greenlet; call "
            "gevent.monkey.patch_all() once, before any other import",
        )
    return _good(
        name,
        "the standard library is not patched: peernet works, but blocking calls of this program stop all of it; "
        "call gevent.monkey.patch_all() before any other import, or keep such calls in threads",
    )


def _late_patches() -> Iterator[Finding]:
    """Modules that took a blocking function by name before it was patched."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return
    originals = dict(_originals(monkey))
    for name, module in sorted(sys.modules.items()):
        if name.partition(".")[0] in EXEMPT:
            continue
        held = sorted({originals[id(value)] for value in _globals(module) if id(value) in originals})
        if held:
            yield _warning(
                "patched too late",
                f"{name} imported {', '.join(held)} before it was patched, and stops every greenlet with it; "
                "call gevent.monkey.patch_all() before importing it",
            )


def _originals(monkey: ModuleType) -> Iterator[tuple[int, str]]:
    for module, names in OFTEN_IMPORTED.items():
        for name in names:
            if monkey.is_object_patched(module, name):
                yield id(monkey.get_original(module, name)), f"{module}.{name}"


def _globals(module: object) -> list[object]:
    # Some entries of sys.modules are no modules, and some load things when they are asked.
    return list(vars(module).values()) if isinstance(module, ModuleType) else []


def _descriptors() -> Finding:
    name = "open files"
    if resource is None:
        return _good(name, "this system has no limit to look at")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_DESCRIPTORS:
        return _warning(name, f"at most {soft}, and each channel takes one; raise it with `ulimit -n 4096`")
    shown = "unlimited" if soft == resource.RLIM_INFINITY else f"at most {soft}"
    return _good(name, f"{shown} (each channel takes one)")
