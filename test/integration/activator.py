# SPDX-License-Identifier: ISC
#
# activator.py - becomes a program that finds listening sockets open, as systemd has it.
#
# Knows sd_listen_fds(3), not what listens on them.
"""python3 activator.py DESCRIPTORS NAMES COMMAND...: both with commas, NAMES as many or none."""
import fcntl
import os
import sys

_FIRST, _ASIDE = 3, 200


def main():
    descriptors = [int(word) for word in sys.argv[1].split(",") if word]
    # Aside first: one of them may be where another one goes.
    aside = [fcntl.fcntl(fd, fcntl.F_DUPFD, _ASIDE) for fd in descriptors]
    for number, fd in enumerate(aside, _FIRST):
        os.dup2(fd, number)
    os.closerange(_FIRST + len(aside), _ASIDE + len(aside))
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(aside)),
                      LISTEN_FDNAMES=sys.argv[2].replace(",", ":"))
    os.execv(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
