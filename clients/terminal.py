"""A program in a terminal of its own: its screen as text, and keys for it."""
import fcntl, os, pty, re, select, signal, struct, subprocess, sys, termios, time

import support

# A program draws what changed, wherever that is: only an emulator knows what is on the screen.
sys.path += map(str, (support.venv("pyte==0.8.2").parent / "lib").glob("python3*/site-packages"))
import pyte

UP, ENTER, ESCAPE = "\x1b[A", "\r", "\x1b"


class Terminal:
    """A program that runs in one until the end of `with`."""

    def __init__(self, command, cwd, env, lines=40, columns=120):
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.child = subprocess.Popen(command, cwd=cwd, env={"TERM": "xterm-256color", **env}, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self.child.pid, signal.SIGKILL)
        self.child.wait()
        os.close(self.master)

    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display if line.strip())

    def read(self, seconds):
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and select.select([self.master], [], [], left)[0]:
            try:
                self.stream.feed(os.read(self.master, 65536))
            except OSError:     # it has ended
                return

    def wait_for(self, pattern, seconds=60):
        """What a pattern finds on the screen, once it is there."""
        until = time.monotonic() + seconds
        while not (found := re.search(pattern, self.text())):
            if time.monotonic() > until:
                raise AssertionError(f"expected {pattern!r} in the terminal within {seconds} s, came {support.short(self.text(), 3000)}")
            self.read(0.2)
        self.read(0.3)      # it draws on
        return found

    def send(self, *keys):
        """Types, with a moment between: what comes at once is taken for pasted text."""
        for key in keys:
            os.write(self.master, key.encode())
            self.read(0.4)
