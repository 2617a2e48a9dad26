// SPDX-License-Identifier: Apache-2.0
// A stand-in for hsmd in a thread: a ROUTER with CURVE and a ZAP handler, that answers as the name
// of the key in the request says:
//     list                 "decryption" and "signing"
//     sign, any key        the data as signature
//     sign, "slow"         the same, but after SERVER_SLOW_MS
//     sign, "other-id"     a reply to another request first
//     sign, "garbage"      what cannot be decoded, with the right id
//     sign, "two-frames"   a message of two frames
//     sign, "silent"       nothing
//     sign, "temp", "denied", "perm", "bug": that class
#pragma once

#include <stdbool.h>

#define SERVER_KEY_SIZE 41
#define SERVER_SLOW_MS 700

struct server_conf {
    char endpoint[200];
    char secret_key[SERVER_KEY_SIZE];
    char admitted[SERVER_KEY_SIZE]; // the one client key that ZAP lets in
    bool is_failing;                // every answer is of class temp
};

struct server;

struct server *server_start(const struct server_conf *conf);
void server_stop(struct server *server);
unsigned server_requests(const struct server *server); // how many it has got
