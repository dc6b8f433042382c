"""Says what libpq makes of connection strings. The tests compare pgbell with it.

    python3 libpq.py [path of libpq.so.5]

Reads requests from standard input and answers each with one line. A request is an operation and its
arguments, which are hexadecimal, between blanks:

    version             number of the library, such as 150020
    keys                names of the parameters that it knows
    variables           parameter=variable for each that an environment variable gives
    parse TEXT          PQconninfoParse: `ok` and key=value for each parameter that is given, or `refused`
    start TEXT VAR...   PQconnectStart with no environment variables but the given ones (name=value), and with
                        no descriptors to open a socket or file with: nothing is looked up or connected to
    look TEXT VAR...    the same, with files and sockets: only for servers at closed ports of 127.0.0.1

`start` and `look` answer with `ok` or `refused`, key=value for each parameter as it was resolved, `PQpass=` the
password for the server that was tried, and `error=` the message. Values are hexadecimal.
"""

import ctypes
import os
import resource
import sys


class Option(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")]
    _fields_ += [("dispsize", ctypes.c_int)]


# Errors after the parameters were accepted.
LATER = (
    b"could not create socket",
    b"could not translate host name",
    b"could not connect",
    b"connection to server",
    b"Connection refused",
    b"No such file or directory",
    b"Too many open files",
    b"Unix-domain socket path",
)
# Errors of a parameter that are found only when a server is tried.
WRONG = (b"invalid port number", b"could not parse network address", b"invalid integer value")


def load(path):
    lib = ctypes.CDLL(path)
    options = ctypes.POINTER(Option)
    for name, result, arguments in (
        ("PQlibVersion", ctypes.c_int, []),
        ("PQconninfoParse", options, [ctypes.c_char_p, ctypes.c_void_p]),
        ("PQconndefaults", options, []),
        ("PQconninfo", options, [ctypes.c_void_p]),
        ("PQconninfoFree", None, [options]),
        ("PQconnectStart", ctypes.c_void_p, [ctypes.c_char_p]),
        ("PQstatus", ctypes.c_int, [ctypes.c_void_p]),
        ("PQerrorMessage", ctypes.c_char_p, [ctypes.c_void_p]),
        ("PQpass", ctypes.c_char_p, [ctypes.c_void_p]),
        ("PQfinish", None, [ctypes.c_void_p]),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def taken(lib, options):
    """The parameters of an array that libpq made, which is freed."""
    found = []
    index = 0
    while options[index].keyword is not None:
        found.append((options[index].keyword, options[index].val))
        index += 1
    lib.PQconninfoFree(options)
    return found


def pairs(options):
    return [f"{key.decode()}={value.hex()}" for key, value in options if value is not None]


def variables(lib):
    options = lib.PQconndefaults()
    found = []
    index = 0
    while options[index].keyword is not None:
        found.append((options[index].keyword, options[index].envvar))
        index += 1
    lib.PQconninfoFree(options)
    return ["ok", *pairs(found)]


def parse(lib, text):
    options = lib.PQconninfoParse(text, None)
    return ["ok", *pairs(taken(lib, options))] if options else ["refused"]


def start(lib, text, variables, files):
    os.environb.clear()
    for variable in variables:
        name, _, value = variable.partition(b"=")
        os.environb[name] = value
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    connection = lib.PQconnectStart(text)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    message = lib.PQerrorMessage(connection) or b""
    # Some versions have no message for a socket that cannot be created.
    later = not message or any(text in message for text in LATER)
    accepted = (lib.PQstatus(connection) != 1 or later) and not any(text in message for text in WRONG)
    answer = ["ok" if accepted else "refused", *pairs(taken(lib, lib.PQconninfo(connection)))]
    answer += [f"PQpass={(lib.PQpass(connection) or b'').hex()}", f"error={message.hex()}"]
    lib.PQfinish(connection)
    return answer


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else "libpq.so.5"
    try:
        lib = load(path)
    except OSError as error:
        print(f"{path} cannot be loaded, install it with apt-get install libpq5: {error}", file=sys.stderr)
        return 1
    for line in sys.stdin:
        operation, *arguments = line.split()
        arguments = [bytes.fromhex(argument) for argument in arguments]
        if operation == "version":
            answer = [str(lib.PQlibVersion())]
        elif operation == "keys":
            answer = [key.decode() for key, _ in taken(lib, lib.PQconndefaults())]
        elif operation == "variables":
            answer = variables(lib)
        elif operation == "parse":
            answer = parse(lib, *(arguments or [b""]))
        else:
            answer = start(lib, arguments[0], arguments[1:], operation == "look")
        print(*answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
