// SPDX-License-Identifier: Apache-2.0
// Asking the person at the terminal (/dev/tty, whatever standard input is), or a descriptor in the
// place of one.
#pragma once

#include "hsmd/base/buf.h"
#include "hsmd/base/err.h"
#include "hsmd/base/secret.h"

#define ASK_SECRET_MAX 1023 // bytes of a passphrase or PIN

// One line, without its end, into an initialised secret; followed by a 0 that len does not count.
// fd -1: asked at the terminal, with echo off until it is over, even if a signal ends it. No byte
// after the line is read, so one descriptor can give several. ERR_PERM: no terminal, nothing there,
// too long; ERR_TEMP: interrupted.
enum err ask_secret(const char *prompt, int fd, struct secret *out, struct detail *detail);
// The same, twice at the terminal. ERR_PERM: not the same.
enum err ask_new_secret(const char *prompt, int fd, struct secret *out, struct detail *detail);
// Shows text, asks and takes yes or no in full. Text must be fit for a terminal (print_clean). What
// was typed before the question is there is thrown away; so it is by ask_line.
enum err ask_yes(const char *text, const char *question, bool *is_yes, struct detail *detail);
// Shows text and takes one line. ERR_PERM: longer than the buffer's cap.
enum err ask_line(const char *text, const char *prompt, struct buf *out, struct detail *detail);
