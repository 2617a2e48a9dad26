// SPDX-License-Identifier: Apache-2.0
#include "tests/support/custodian.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <zmq.h>

#include "hsmd/base/log.h"
#include "tests/support/require.h"

static const char *const type_names[] = {"rsa", "ec", "ed25519"};
static const char *const client_names[] = {"all", "signer", "opener",  "pss",
                                           "one", "none",   "stranger"};

const char *custodian_key_name(unsigned type, enum wire_purpose purpose, enum wire_state state,
                               char name[TEXT_NAME_MAX + 1])
{
    snprintf(name, TEXT_NAME_MAX + 1, "%s.%s.%s", type_names[type], wire_purpose_name(purpose),
             wire_state_name(state));
    return name;
}

static void grant(struct registry *registry, const struct custodian_change *change,
                  enum custodian_client client, const char *key)
{
    const uint64_t sign = REGISTRY_SET(WIRE_SIGN);
    const uint64_t open = REGISTRY_SET(WIRE_UNWRAP) | REGISTRY_SET(WIRE_AGREE);
    static const struct {
        bool has_sign, has_open;
        uint64_t algorithms;
    } rights[] = {
        [CUSTODIAN_ALL] = {true, true, REGISTRY_ALL},
        [CUSTODIAN_SIGNER] = {true, false, REGISTRY_ALL},
        [CUSTODIAN_OPENER] = {false, true, REGISTRY_ALL},
        [CUSTODIAN_PSS] = {true, false, REGISTRY_SET(WIRE_RSA_PSS)},
        [CUSTODIAN_ONE] = {true, true, REGISTRY_ALL},
        [CUSTODIAN_STRANGER] = {true, true, REGISTRY_ALL},
    };
    bool is_ungranted = change->ungranted && strcmp(change->ungranted, key) == 0;
    if (client == CUSTODIAN_ONE && strcmp(key, "rsa.smime-sign.enabled") != 0)
        return;
    REQUIRE(registry_add_grant(registry, client_names[client], key,
                               (rights[client].has_sign && !is_ungranted ? sign : 0) |
                                   (rights[client].has_open ? open : 0),
                               rights[client].algorithms, NULL, NULL) == ERR_OK);
}

static bool is_client(const struct custodian *custodian, const struct custodian_change *change,
                      unsigned client)
{
    if (client == CUSTODIAN_STRANGER)
        return change->has_stranger;
    return !change->revoked || strcmp(change->revoked, custodian->public_keys[client]) != 0;
}

static void add_key(const struct custodian *custodian, const struct custodian_change *change,
                    struct registry *registry, struct registry_key *key, unsigned type)
{
    key->certificates = BYTES_LITERAL("no real certificate");
    key->store = custodian->stores[type];
    if (change->disabled && strcmp(change->disabled, key->name) == 0)
        key->state = WIRE_DISABLED;
    REQUIRE(registry_add_key(registry, key, NULL) == ERR_OK);
    for (unsigned client = CUSTODIAN_ALL; client < CUSTODIAN_CLIENTS; client++) {
        if (client != CUSTODIAN_NONE && is_client(custodian, change, client))
            grant(registry, change, (enum custodian_client)client, key->name);
    }
}

static struct registry *make_registry(const struct custodian *custodian,
                                      const struct custodian_change *change)
{
    struct registry *registry = NULL;
    REQUIRE(registry_new(&registry) == ERR_OK);
    for (unsigned i = 0; i < CUSTODIAN_CLIENTS; i++) {
        struct registry_client client;
        if (!is_client(custodian, change, i))
            continue;
        snprintf(client.name, sizeof client.name, "%s", client_names[i]);
        memcpy(client.public_key, custodian->public_keys[i], sizeof client.public_key);
        REQUIRE(registry_add_client(registry, &client, NULL) == ERR_OK);
    }
    for (unsigned type = 0; type < CUSTODIAN_TYPES; type++) {
        for (unsigned n = 0; n < 9; n++) {
            struct registry_key key = {.purpose = (enum wire_purpose)(WIRE_SMIME_SIGN + n % 3),
                                       .state = (enum wire_state)(WIRE_ENABLED + n / 3),
                                       .algorithms = REGISTRY_ALL};
            custodian_key_name(type, key.purpose, key.state, key.name);
            add_key(custodian, change, registry, &key, type);
        }
    }
    struct registry_key listed = {.name = "rsa.listed",
                                  .purpose = WIRE_GENERAL,
                                  .state = WIRE_ENABLED,
                                  .algorithms =
                                      REGISTRY_SET(WIRE_RSA_PKCS1) | REGISTRY_SET(WIRE_RSAES_OAEP)};
    add_key(custodian, change, registry, &listed, CUSTODIAN_RSA);
    return registry;
}

void custodian_swap(struct custodian *custodian, const struct custodian_change *change)
{
    live_swap(custodian->live, make_registry(custodian, change));
}

void custodian_setup(struct custodian *custodian)
{
    *custodian = (struct custodian){0};
    log_open("test", LOG_SINK_STDERR, LOG_LEVEL_ERROR);
    snprintf(custodian->dir, sizeof custodian->dir, "/tmp/custodian-XXXXXX");
    REQUIRE(mkdtemp(custodian->dir));
    snprintf(custodian->audit_path, sizeof custodian->audit_path, "%s/audit.log", custodian->dir);
    for (unsigned i = 0; i < CUSTODIAN_CLIENTS; i++)
        REQUIRE(zmq_curve_keypair(custodian->public_keys[i], custodian->secret_keys[i]) == 0);
    custodian->stores[CUSTODIAN_RSA] = memstore_key_generate("RSA-2048");
    custodian->stores[CUSTODIAN_EC] = memstore_key_generate("P-256");
    custodian->stores[CUSTODIAN_ED25519] = memstore_key_generate("ED25519");
    custodian->registry = make_registry(custodian, &(struct custodian_change){0});
    REQUIRE(live_new(custodian->registry, &custodian->live) == ERR_OK);
    REQUIRE(audit_open(custodian->audit_path, &custodian->audit, NULL) == ERR_OK);
    REQUIRE(core_worker_init(&custodian->worker, NULL) == ERR_OK);
    custodian->core = (struct core){
        .live = custodian->live, .keystore = &memstore_ops, .audit = custodian->audit};
}

void custodian_teardown(struct custodian *custodian)
{
    core_worker_clear(&custodian->worker);
    audit_close(custodian->audit);
    live_free(custodian->live);
    for (unsigned i = 0; i < CUSTODIAN_TYPES; i++)
        memstore_key_free(custodian->stores[i]);
    unlink(custodian->audit_path);
    rmdir(custodian->dir);
}

bool custodian_call(struct custodian *custodian, enum custodian_client client,
                    const struct wire_request *request, struct wire_reply *reply, struct buf *frame)
{
    struct buf encoded;
    buf_init(&encoded, WIRE_FRAME_MAX);
    buf_reset(frame);
    reply->class = wire_encode_request(request, &encoded);
    if (reply->class != ERR_OK) {
        buf_clear(&encoded);
        return true;
    }
    bool is_answered =
        core_handle(&custodian->core, &custodian->worker, custodian->public_keys[client],
                    buf_bytes(&encoded), deadline_in(60000), frame);
    if (is_answered) {
        REQUIRE(wire_decode_reply(request->operation, buf_bytes(frame), reply, NULL) == ERR_OK);
        REQUIRE(reply->id == request->id);
    } else {
        REQUIRE(frame->len == 0);
    }
    buf_clear(&encoded);
    return is_answered;
}

static void put(struct buf *out, const void *data, size_t len)
{
    REQUIRE(buf_put(out, data, len) == ERR_OK);
}

void custodian_attributes(enum hash hash, struct buf *out)
{
    static const uint8_t content_type[] = {0x30, 0x18, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7,
                                           0x0d, 0x01, 0x09, 0x03, 0x31, 0x0b, 0x06, 0x09, 0x2a,
                                           0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01};
    static const uint8_t signing_time[] = {0x30, 0x1c, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7,
                                           0x0d, 0x01, 0x09, 0x05, 0x31, 0x0f, 0x17, 0x0d};
    static const uint8_t message_digest[] = {0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                             0xf7, 0x0d, 0x01, 0x09, 0x04};
    const uint8_t size = (uint8_t)hash_size(hash);
    const uint8_t content = (uint8_t)(26 + 30 + 17 + size);
    const uint8_t set[] = {0x31, 0x81, content}; // the long form of a length, if need be
    const uint8_t before[] = {0x30, (uint8_t)(15 + size)};
    const uint8_t after[] = {0x31, (uint8_t)(2 + size), 0x04, size};
    uint8_t digest[HASH_SIZE_MAX];
    char stamp[20];
    struct tm tm;
    time_t now = time(NULL);
    gmtime_r(&now, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d%H%M%SZ", &tm);
    memset(digest, 0xd1, sizeof digest);
    put(out, set, content < 128 ? 1 : 2);
    put(out, set + 2, 1);
    put(out, content_type, sizeof content_type);
    put(out, signing_time, sizeof signing_time);
    put(out, stamp + 2, 13); // UTCTime: two digits of the year
    put(out, before, sizeof before);
    put(out, message_digest, sizeof message_digest);
    put(out, after, sizeof after);
    put(out, digest, size);
}

unsigned custodian_audit_lines(const struct custodian *custodian, char *last, size_t size)
{
    char line[AUDIT_LINE_MAX + 2];
    unsigned count = 0;
    FILE *file = fopen(custodian->audit_path, "re");
    REQUIRE(file);
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (last)
            snprintf(last, size, "%s", line);
        count++;
    }
    fclose(file);
    return count;
}
