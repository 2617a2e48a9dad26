// SPDX-License-Identifier: Apache-2.0
// What every test of the client needs: a directory, keys in files, a server, an open client.
#pragma once

#include "hsmd/client/client.h"
#include "server.h"

#define TIMEOUT_MS 8000

struct fixture {
    char directory[64];
    char server_public[96]; // paths
    char client_public[96];
    char client_secret[96];
    struct server_conf conf; // of the server: ipc in the directory
    struct server *server;
};

// cmocka setup and teardown: state is a struct fixture, with keys, without a server.
int fixture_setup(void **state);
int fixture_teardown(void **state);

void fixture_start(struct fixture *fixture); // the server
void fixture_stop(struct fixture *fixture);
void fixture_write(const char *path, const char *text, unsigned mode);

struct client *fixture_client(struct fixture *fixture, const char *endpoints, unsigned timeout_ms,
                              unsigned sockets_max);

// Signs data with the key of that name; ERR_OK only if the reply is for this data.
enum err fixture_sign(struct client *client, const char *key, const char *data,
                      struct detail *detail);
