// SPDX-License-Identifier: Apache-2.0
// A door of local.h with one thread on both sides of it, clients of ours and raw sockets. The clock
// that the door sees can be put forward: the linker puts ours in front of deadline_in,
// deadline_is_past and clock_ms, and of clock_us, which stands still; in front of getsockopt, for
// peers of other users; and of setsockopt, for an older kernel. Fails the test if something of its
// own does.
#pragma once

#include "hsmd/base/curve.h"
#include "hsmd/server/local.h"
#include "hsmd/zmtp/zmtp.h"

#define WAIT_MS 30000    // for what must come
#define FRAME_MAX 65536  // bytes of a message
#define DOOR_FILES 256   // RLIMIT_NOFILE while it is opened
#define DOOR_ENTERING 48 // so many may be without a proof then: a quarter of DOOR_FILES - 64

struct door {
    struct local *local;
    int epoll;
    char path[64];
    uid_t pretended_user; // of those who are accepted from now on; 0: the real one
    bool is_old;          // Linux before 6.16, from the next local_bind on
};

extern struct door door;
extern const struct zmtp_keys peer_keys; // of a client that is let in

int door_setup(void **state);
int door_teardown(void **state);
enum err door_open_another(struct local **local); // not listening
void door_look(void);                             // once, at what there is
void door_settle(void);                           // until there has been nothing for a while
void door_await(struct arrival *arrival);         // looks until there is a message
unsigned door_times_said(const char *text);       // in the log of this test

void clock_advance(unsigned ms);
void clock_advance_us(unsigned us); // clock_us alone
unsigned open_files(void);
void arrival_init(struct arrival *arrival);
void arrival_clear(struct arrival *arrival);

struct peer {
    int fd;
    struct zmtp *zmtp;
    bool is_ended; // by the door
    struct buf received;
};

void peer_make_keys(char public_key[CURVE_TEXT_SIZE], char secret_key[CURVE_TEXT_SIZE]);
void peer_connect(struct peer *peer, const struct zmtp_keys *keys);
bool peer_try_connect(struct peer *peer); // with peer_keys; false: out of memory, to be left too
void peer_enter(struct peer *peer);       // connects, and is let in
void peer_await_entry(struct peer *peer); // who has connected is
void peer_leave(struct peer *peer);
void peer_say(struct peer *peer, const char *text); // not written yet
void peer_write(struct peer *peer, size_t most);    // what there is room for; 0: no limit
void peer_read(struct peer *peer);                  // what is there
// The next message that has come, in received. False: there is none.
bool peer_has(struct peer *peer, const char *text);
void peer_expect(struct peer *peer, const char *text); // it comes, looking
void peer_await_end(struct peer *peer);
void peer_ask(struct peer *peer); // a question and its answer: it is served
// Asks and asks, with answers of 60000 bytes that begin with their number, and reads none, until
// nothing more is read from it. How many answers it was sent.
unsigned peer_fill(struct peer *peer);

int raw_connect(void);
void raw_write(int fd, struct bytes bytes); // all
bool raw_is_ended(int fd);                  // by the door, looking; reads what comes before
