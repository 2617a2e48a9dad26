// SPDX-License-Identifier: Apache-2.0
// A peer for one link, in a thread: a ZMTP server up to a stage, which then misbehaves.
#pragma once

#include <pthread.h>

#include "tests/support/zmtp_server.h"

#define BIG (4U << 20) // bytes of a message, at most

enum stage {
    AT_ACCEPT,
    AT_GREETING, // sent
    AT_HELLO,    // read
    AT_WELCOME,  // sent
    AT_INITIATE, // read
    AT_READY,    // sent
};

enum act {
    ACT_WAIT,    // says no more, reads no more, until the test is over
    ACT_CLOSE,   // when the other side has nothing on the way
    ACT_RESET,   // closes with bytes unread
    ACT_GARBAGE, // and waits
    ACT_REFUSE,  // ERROR 400, and closes with bytes unread
    ACT_FAIL,    // ERROR 500, and closes
    ACT_PART,    // half of a message, and closes
    ACT_ECHO,    // answers one message with the same
    ACT_ECHO_CLOSE,
};

struct peer {
    enum stage stage;
    enum act act;
    int listener;
    int quit[2]; // a pipe, closed by the test
    char directory[64];
    char endpoint[128];
    pthread_t thread;
    struct zmtp_server server;
    struct buf in;
    struct buf out;
};

// Listens, and takes one connection. family: AF_UNIX, AF_INET (as localhost), AF_INET6. False: this
// machine has no such.
bool peer_start(struct peer *peer, enum stage stage, enum act act, int family);
void peer_stop(struct peer *peer); // waits for its end
