"""Memory that a C library allocates for its caller, as bindings of C libraries do: Python's objects do not show it."""

import collections
import ctypes

libc = ctypes.CDLL(None)
libc.strdup.restype = ctypes.c_void_p
libc.tsearch.restype = ctypes.c_void_p
libc.tfind.restype = ctypes.c_void_p

tree = ctypes.c_void_p(None)
compare = ctypes.cast(libc.strcmp, ctypes.c_void_p)

compiled = collections.OrderedDict()


def copy_headers(data):
    """Copies that nobody frees."""
    for _ in range(3):
        libc.strdup(repr(data).encode())


def intern_name(name):
    """A table of names inside of the library that only grows."""
    for part in ("issuer", "subject", "audience", "scope", "key", "session"):
        key = (part + ":" + name).encode()
        if not libc.tfind(key, ctypes.byref(tree), compare):
            libc.tsearch(ctypes.c_void_p(libc.strdup(key)), ctypes.byref(tree), compare)


def compile_pattern(text):
    """A compiled pattern, which its owner has to free."""
    pattern = ctypes.create_string_buffer(256)  # regex_t has 64 bytes
    libc.regcomp(pattern, text.encode(), 1)
    return pattern


def check_once(text, value):
    """Compiles a pattern for each call and forgets to free it."""
    pattern = compile_pattern(text)
    return libc.regexec(pattern, value.encode(), 0, None, 0) == 0


def check_cached(text, value):
    """Keeps the 200 patterns used last, and frees the others."""
    pattern = compiled.pop(text, None) or compile_pattern(text)
    compiled[text] = pattern
    if len(compiled) > 200:
        libc.regfree(compiled.popitem(last=False)[1])
    return libc.regexec(pattern, value.encode(), 0, None, 0) == 0
