"""Runs a program in a root file system as a cluster's node would: as process 1 of namespaces of its own, with the root
read-only, as an unprivileged user without capabilities. Needs root.

    python container.py ROOT USER [--mount=SOURCE:TARGET]... -- PROGRAM [ARGUMENT]...

Targets must exist in ROOT. Mounts are read-only. The network is the caller's.
"""

import ctypes
import os
import subprocess
import sys

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
LAST_CAPABILITY = 40


def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)


def lay_out(root, mounts):
    mount("--make-rprivate", "/")
    mount("--bind", root, root)
    for name in ("proc", "dev", "sys"):
        os.makedirs(f"{root}/{name}", exist_ok=True)
    mount("-t", "proc", "proc", f"{root}/proc")
    mount("--rbind", "/dev", f"{root}/dev")
    mount("--rbind", "/sys", f"{root}/sys")
    for source, target in mounts:
        mount("--bind", source, root + target)
        mount("-o", "remount,bind,ro", root + target)
    mount("-o", "remount,bind,ro", root)


def drop_privileges(user):
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no_new_privs")


def main():
    split = sys.argv.index("--")
    root, user = sys.argv[1], int(sys.argv[2])
    mounts = [option.removeprefix("--mount=").split(":") for option in sys.argv[3:split]]
    program = sys.argv[split + 1 :]
    lay_out(root, mounts)
    os.chroot(root)
    os.chdir("/")
    drop_privileges(user)
    os.execve(program[0], program, {"PATH": "/opt/adamoe"})


def command(root, user, mounts, program):
    """The command line that does it; what it starts ends with it."""
    flags = [f"--mount={source}:{target}" for source, target in mounts]
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
    return [*unshare, sys.executable, __file__, str(root), str(user), *flags, "--", *program]


if __name__ == "__main__":
    main()
