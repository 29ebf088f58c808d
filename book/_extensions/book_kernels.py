"""Kernels that start with their imports done: every notebook of a build is a fork of one process that imported them.

PyTorch, Matplotlib and the pages of `nas_core` take a kernel about four seconds of a core to import, once a notebook. Here one
process, the nursery, imports them and waits; a kernel is a fork of it, which has computed nothing yet and shares nothing with the
next. `offered(folder)` starts a nursery and points Jupyter to a kernel of the usual name whose command is this file: it asks the
nursery for a fork, and lives as long as that does. What the nursery cannot give, it does not hide: the command fails as a kernel
that fails to start does."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

KERNEL = "python3"
PRELOADED = (
    "torch",
    "torch._dynamo",
    "scipy.stats",
    "matplotlib.pyplot",
    "matplotlib_inline.backend_inline",
    "ipykernel.kernelapp",
)
BACKEND = "module://matplotlib_inline.backend_inline"
PARENT_LOOKED_FOR_S = 1.0


@contextlib.contextmanager
def offered(folder):
    """While this lasts, Jupyter's kernels are forks of a nursery whose files lie in `folder`. Only on Linux: macOS does not promise
    that a process which has loaded these libraries can be forked, and Windows has no fork; there kernels start as ever."""
    if sys.platform != "linux":
        yield
        return
    folder = Path(folder)
    place = folder / "nursery"
    spec = {
        "argv": [sys.executable, "-I", "-S", __file__, "kernel", str(place), "-f", "{connection_file}"],
        "display_name": "Python 3",
        "language": "python",
    }
    kernel = folder / "jupyter" / "kernels" / KERNEL
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    before = os.environ.get("JUPYTER_PATH")
    os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, (str(folder / "jupyter"), before)))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        done, doing = os.pipe()
        # It ends when its input does, so also when this process is killed.
        nursery = subprocess.Popen(
            [sys.executable, __file__, "nursery", str(listener.fileno()), str(doing)],
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno(), doing],
        )
        os.close(doing)
    try:
        # Jupyter chooses a kernel's ports before it asks for the kernel, and tries to connect to them: were the kernel to wait for
        # imports meanwhile, somebody could take a port, even those who try to connect.
        os.read(done, 1)
        os.close(done)
        yield
    finally:
        nursery.stdin.close()
        nursery.wait()
        if before is None:
            del os.environ["JUPYTER_PATH"]
        else:
            os.environ["JUPYTER_PATH"] = before


def nursery(descriptor, doing):
    """Import what pages import, close the descriptor `doing`, then fork a kernel for everyone who connects to the socket of the
    first descriptor."""
    del sys.path[0]  # a kernel does not find modules beside this file
    # Both are read while modules are imported: the second tells a kernel that it has a parent, and need not greet a user.
    os.environ |= {"MPLBACKEND": BACKEND, "JPY_PARENT_PID": str(os.getpid())}
    listener = socket.socket(fileno=int(descriptor))
    import importlib
    import pkgutil

    from nas_core import pages

    for name in (*PRELOADED, *(f"nas_core.pages.{own.name}" for own in pkgutil.iter_modules(pages.__path__))):
        importlib.import_module(name)
    os.close(int(doing))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system takes back what has ended
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        asked, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            become_kernel(asked)
        asked.close()


def become_kernel(asked):
    """In the fork: be the kernel that was asked for, and end when who asked has ended."""
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request = json.loads(asked.makefile().readline())
    os.environ.clear()
    os.environ |= request["environment"]
    os.chdir(request["folder"])
    sys.argv = ["ipykernel_launcher", *request["arguments"]]
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 -- as long as the kernel lives

    def watch():
        asked.recv(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
    os._exit(0)


def kernel(place, *arguments):
    """The kernel's command: ask the nursery for a fork, which holds the other end of the line until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # sent before a kernel is told to end
    line = socket.socket(socket.AF_UNIX)
    line.connect(place)
    environment = {**os.environ, "MPLBACKEND": BACKEND}
    request = {"environment": environment, "folder": os.getcwd(), "arguments": arguments}
    line.sendall((json.dumps(request) + "\n").encode())
    parent = os.getppid()
    while os.getppid() == parent:
        if select.select([line], [], [], PARENT_LOOKED_FOR_S)[0]:
            return


if __name__ == "__main__":
    {"nursery": nursery, "kernel": kernel}[sys.argv[1]](*sys.argv[2:])
