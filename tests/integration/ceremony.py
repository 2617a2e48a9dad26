#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Follows the key ceremony of hsmd-officers(7) word by word.

usage: ceremony.py PAGE PATH

Takes the literal blocks of PAGE that begin with a prompt, and types what is bold in them: at the
shell of the person before the prompt (a terminal each, as the users of that name, PATH first in
their PATH), or at the question a line begins with. Lines without bold must come, in their order;
italics stand for any text. What the page says once is done everywhere: a question for a passphrase
is answered with the one that this person chose, and "Sign this?" or "Approve this?" with yes. A command must succeed
unless the page shows that the program complains.
"""

import os
import pty
import re
import select
import sys
import termios
import time

WAIT = 60  # seconds without any output
PROMPT = re.compile(rb"@@(\d+)@@ $")
QUESTION = re.compile(r"(?:assphrase|PIN)[^\n]*: $")


def blocks(page):
    """The transcripts: lists of lines with \\fB, \\fI and \\fR in them, and their line numbers."""
    inside = None
    with open(page, encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            line = line.rstrip("\n")
            if line.startswith(".Bd -literal"):
                inside = []
            elif line == ".Ed" and inside is not None:
                if any(re.match(r"[a-z]+[$#] \\fB", text) for _, text in inside):
                    yield inside
                inside = None
            elif inside is not None:
                inside.append((number, line))


def spans(line):
    """(font, text) pairs of a line, without its escapes."""
    font = "R"
    for piece in re.split(r"(\\f[BIR])", line):
        if re.fullmatch(r"\\f[BIR]", piece):
            font = piece[2]
        elif piece:
            text = re.sub(r"\\\(aq", "'", piece).replace(r"\&", "").replace(r"\-", "-")
            yield font, text.replace(r"\e", "\\")


class Terminal:
    """Somebody's shell."""

    def __init__(self, name, path):
        self.name = name
        self.seen = ""
        self.at = 0  # how much of it has been looked at
        self.passphrase = None
        child, self.fd = pty.fork()
        if child == 0:
            os.environ.clear()
            command = ["bash", "--norc", "--noprofile", "--noediting", "-i"]
            os.execv("/usr/sbin/runuser", ["runuser", "-u", name, "--", "env", "-i", "TERM=dumb",
                     f"PATH={path}:/usr/sbin:/usr/bin:/sbin:/bin", f"HOME={home_of(name)}",
                     f"USER={name}", "PS1=@@$?@@ ", "PS2="] + command)
        self.finish({0})
        self.type("cd")
        self.finish({0})

    def type(self, text):
        data = b"\x03" if text == "^C" else text.encode() + b"\n"
        while data:
            data = data[os.write(self.fd, data):]

    def type_unseen(self, text):
        """A program drops what was typed before it turned the echo off."""
        end = time.monotonic() + 10
        while termios.tcgetattr(self.fd)[3] & termios.ECHO:
            if time.monotonic() > end:
                raise AssertionError(f"{self.name}: the program does not turn the echo off")
            time.sleep(0.005)
        self.type(text)

    def read(self, what):
        ready, _, _ = select.select([self.fd], [], [], WAIT)
        data = os.read(self.fd, 65536) if ready else b""
        if not data:
            raise AssertionError(f"{self.name}: waited for {what}; came:\n{self.seen[-2000:]}")
        text = data.decode(errors="replace").replace("\r", "")
        sys.stdout.write(text)
        self.seen += text

    def rest(self):
        return self.seen[self.at:]

    def status(self):
        """The exit status, if the shell asks for the next command."""
        found = PROMPT.search(self.rest().encode())
        return int(found.group(1)) if found else None

    def answer_usual(self):
        """What is said once in the page: passphrases, and yes."""
        found = re.search(r"Passphrase of [^\n]*: $", self.rest())
        if found and self.passphrase is not None:
            self.at += found.end()
            self.type_unseen(self.passphrase)
        found = re.search(r"(?:Sign|Approve) this\? \[yes/no\] $", self.rest())
        if found:
            self.at += found.end()
            self.type("yes")

    def expect(self, pattern, what):
        while not (found := re.search(pattern, self.rest())):
            if self.status() is not None:
                raise AssertionError(f"{self.name}: the page shows {what!r}; came:\n{self.rest()}")
            self.answer_usual()
            if not re.search(pattern, self.rest()):
                self.read(what)
        self.at += found.end()

    def finish(self, allowed):
        while self.status() is None:
            self.answer_usual()
            self.read("the end of the command")
        status = self.status()
        self.at = len(self.seen)
        if status not in allowed:
            raise AssertionError(f"{self.name}: exit status {status}")


def home_of(name):
    with open("/etc/passwd", encoding="utf-8") as file:
        for line in file:
            fields = line.split(":")
            if fields[0] == name:
                return fields[5]
    raise AssertionError(f"there is no user {name}")


def pattern_of(line):
    """Of a line of output: words as they are, whatever is between them, italics anything."""
    out = ""
    for font, text in spans(line):
        if font == "I":
            out += r"[^\n]*"
        else:
            out += r"\s+".join(re.escape(word) for word in re.split(r"\s+", text))
    return out.removeprefix(r"\s+")


class Ceremony:
    def __init__(self, path):
        self.path = path
        self.terminals = {}
        self.commands = 0

    def of(self, name):
        if name not in self.terminals:
            self.terminals[name] = Terminal(name, self.path)
        return self.terminals[name]

    def play(self, lines):
        terminal = None
        runs = False  # a command whose end has not been waited for
        allowed = {0}
        for number, line in lines:
            parts = list(spans(line))
            shown = "".join(text for font, text in parts if font != "B")
            typed = "".join(text for font, text in parts if font == "B")
            prompt = re.match(r"([a-z]+)[$#] $", shown)
            try:
                if prompt and typed:
                    if runs:
                        terminal.finish(allowed)
                    terminal = self.of(prompt.group(1))
                    terminal.type(typed)
                    self.commands += 1
                    allowed = {0}
                    # hsmd stays in the foreground; everything else has an end.
                    runs = typed != "hsmd"
                elif typed == "^C":
                    if runs:
                        terminal.finish(allowed)
                    runs = False
                    terminal = self.of("hsmd")
                    terminal.type(typed)
                    terminal.finish({0, 130})
                elif typed and shown:
                    terminal.expect(re.escape(shown.rstrip()) + r"\s*$", shown)
                    self.answer(terminal, shown, typed)
                elif typed:
                    terminal.type(typed)
                elif shown.strip() != "...":
                    if shown.startswith("hsmctl: "):
                        allowed = {1}
                    terminal.expect(pattern_of(line), shown)
            except AssertionError as error:
                raise AssertionError(f"line {number} of the page: {error}") from error
        if runs:
            terminal.finish(allowed)

    def answer(self, terminal, shown, typed):
        if not QUESTION.search(shown):
            terminal.type(typed)
            return
        if shown.startswith("Passphrase for the new key"):
            terminal.passphrase = typed
        terminal.type_unseen(typed)


def main():
    page, path = sys.argv[1:]
    ceremony = Ceremony(path)
    try:
        for block in blocks(page):
            ceremony.play(block)
    except AssertionError as error:
        sys.exit(f"\nFAILED: {error}")
    print(f"\n{ceremony.commands} commands of the page were typed")
    if ceremony.commands < 60:
        sys.exit("FAILED: the page had more to follow once")


main()
