// SPDX-License-Identifier: Apache-2.0
// Keys, clients, and what there is in a token.
#include "hsmd/custody/reads.h"
#include "hsmd/key_type.h"

#include <stdio.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

static json_t *grant_item(const struct store_grant *grant, bool is_of_key)
{
    json_t *item = json_pack(
        "{ss so so so}", is_of_key ? "client" : "key", is_of_key ? grant->client : grant->key,
        "operations", reads_set(grant->operations, reads_operation), "algorithms",
        reads_set(grant->algorithms, reads_algorithm), "limits", reads_limits(&grant->limits));
    return item;
}

static enum err see_grant_of_key(void *context, const struct store_grant *grant)
{
    struct reading *reading = context;
    reads_add(reading, reading->into, grant_item(grant, true));
    return ERR_OK;
}

static enum err see_grant_of_client(void *context, const struct store_grant *grant)
{
    struct reading *reading = context;
    reads_add(reading, reading->into, grant_item(grant, false));
    return ERR_OK;
}

static json_t *time_text(const ASN1_TIME *time)
{
    struct tm tm = {0};
    return ASN1_TIME_to_tm(time, &tm) == 1 ? reads_stamp((int64_t)timegm(&tm)) : json_null();
}

static json_t *name_text(const X509_NAME *name)
{
    char *text = NULL;
    BIO *bio = BIO_new(BIO_s_mem());
    bool ok = bio && X509_NAME_print_ex(bio, name, 0, XN_FLAG_RFC2253) >= 0;
    long len = ok ? BIO_get_mem_data(bio, &text) : 0;
    json_t *value = ok ? reads_text(bytes_of(text, (size_t)len)) : NULL;
    BIO_free(bio);
    return value;
}

static json_t *certificate_item(const X509 *certificate, struct bytes der)
{
    BIGNUM *serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), NULL);
    char *hex = serial ? BN_bn2hex(serial) : NULL;
    json_t *item =
        json_pack("{so so so so so so}", "subject", name_text(X509_get_subject_name(certificate)),
                  "issuer", name_text(X509_get_issuer_name(certificate)), "serial",
                  hex ? json_string(hex) : json_null(), "not_before",
                  time_text(X509_get0_notBefore(certificate)), "not_after",
                  time_text(X509_get0_notAfter(certificate)), "sha256", reads_sha256(der));
    OPENSSL_free(hex);
    BN_free(serial);
    return item;
}

static void put_certificates(struct reading *reading, json_t *item, struct bytes certificates)
{
    json_t *array = json_array();
    BIO *pem = BIO_new(BIO_s_mem());
    const uint8_t *at = certificates.data;
    const uint8_t *end = at ? at + certificates.len : at;
    while (at && at < end) {
        const uint8_t *begin = at;
        X509 *certificate = d2i_X509(NULL, &at, (long)(end - at));
        if (!certificate)
            break;
        reads_add(reading, array,
                  certificate_item(certificate, bytes_of(begin, (size_t)(at - begin))));
        if (!pem || PEM_write_bio_X509(pem, certificate) != 1)
            reading->is_short = true;
        X509_free(certificate);
    }
    char *text = NULL;
    long len = pem ? BIO_get_mem_data(pem, &text) : 0;
    reads_put(reading, item, "certificates", array);
    reads_put(reading, item, "certificate_pem",
              len > 0 ? json_stringn(text, (size_t)len) : json_null());
    BIO_free(pem);
}

// PEM, as it is handed to who verifies: the auditor with the audit key.
static json_t *public_text(struct bytes public_key)
{
    char *text = NULL;
    BIO *pem = public_key.len ? BIO_new(BIO_s_mem()) : NULL;
    bool ok =
        pem && PEM_write_bio(pem, PEM_STRING_PUBLIC, "", public_key.data, (long)public_key.len) > 0;
    long len = ok ? BIO_get_mem_data(pem, &text) : 0;
    json_t *value = len > 0 ? json_stringn(text, (size_t)len) : json_null();
    BIO_free(pem);
    return value;
}

// The type from the public key, which is the same in all tokens.
static json_t *type_text(struct bytes public_key)
{
    char text[ACT_TYPE_SIZE];
    const uint8_t *at = public_key.data;
    EVP_PKEY *key = public_key.len ? d2i_PUBKEY(NULL, &at, (long)public_key.len) : NULL;
    enum token_key_type type;
    json_t *value = key_type_of(key, &type)
                        ? json_string(act_type_text(key_type_to_wire(type),
                                                    (unsigned)EVP_PKEY_get_bits(key), text))
                        : json_null();
    EVP_PKEY_free(key);
    return value;
}

// Of the keystore's key that the registry of the moment has.
static void put_token_side(struct reading *reading, json_t *item, const struct store_key *key)
{
    const struct custody_conf *conf = &reading->custody->conf;
    const struct registry *registry = live_take(conf->live);
    const struct registry_key *there = registry_key_by_name(registry, bytes_of_text(key->name));
    struct keystore_key *bound = there ? there->store : NULL;
    const struct token_key_info *info = bound ? conf->tokens->keys->describe(bound) : NULL;
    bool is_open = false;
    json_t *places = json_array();
    for (size_t i = 0; i < key->place_count; i++) {
        const struct store_place *place = &key->places[i];
        bool is_place_open = bound && conf->tokens->is_open(bound, i);
        is_open = is_open || is_place_open;
        reads_add(reading, places,
                  json_pack("{ss so so sb}", "token", place->token, "label",
                            reads_text(bytes_of_text(place->label)), "id",
                            reads_hex(bytes_of(place->id, place->id_len)), "open", is_place_open));
    }
    if (there && there->budget) {
        struct budget_left left = budget_get_left(there->budget, clock_ms());
        reads_put(reading, item, "left", reads_left(&left));
    }
    reads_put(reading, item, "places", places);
    bool is_known = info && is_open;
    reads_put(reading, item, "extractable",
              is_known ? json_boolean(info->extractable) : json_null());
    reads_put(reading, item, "sensitive", is_known ? json_boolean(info->sensitive) : json_null());
    reads_put(reading, item, "always_sensitive",
              is_known ? json_boolean(info->always_sensitive) : json_null());
    reads_put(reading, item, "never_extractable",
              is_known ? json_boolean(info->never_extractable) : json_null());
    live_give(conf->live, registry);
}

static enum err see_key(void *context, const struct store_key *key)
{
    struct reading *reading = context;
    json_t *item = json_object();
    json_t *grants = json_array();
    reads_put(reading, item, "name", json_string(key->name));
    reads_put(reading, item, "purpose", json_string(wire_purpose_name(key->purpose)));
    reads_put(reading, item, "state",
              json_string(key->is_destroyed ? "destroyed" : wire_state_name(key->state)));
    reads_put(reading, item, "type", type_text(key->public_key));
    reads_put(reading, item, "algorithms", reads_set(key->algorithms, reads_algorithm));
    reads_put(reading, item, "limits", reads_limits(&key->limits));
    reads_put(reading, item, "public_key_sha256", reads_sha256(key->public_key));
    reads_put(reading, item, "public_key_pem", public_text(key->public_key));
    reads_put(reading, item, "created", json_string(key->created));
    put_token_side(reading, item, key);
    put_certificates(reading, item, key->certificates);
    reading->into = grants;
    enum err err = store_each_grant(reading->custody->conf.store, NULL, key->name, see_grant_of_key,
                                    reading, &reading->call->detail);
    reads_put(reading, item, "grants", grants);
    reads_add(reading, reading->top, item);
    return err;
}

// The name asked for, or NULL: all.
static const char *wanted(const struct reading *reading, char name[TEXT_NAME_MAX + 1])
{
    struct bytes argument = reading->call->request.read.argument;
    snprintf(name, TEXT_NAME_MAX + 1, "%.*s", (int)argument.len,
             argument.len ? (const char *)argument.data : "");
    return argument.len ? name : NULL;
}

static enum err check_found(struct reading *reading, const char *name, const char *what)
{
    return name && !json_array_size(reading->top)
               ? err_set(&reading->call->detail, ERR_PERM, "there is no %s \"%s\"", what, name)
               : ERR_OK;
}

enum err reads_keys(struct reading *reading)
{
    char room[TEXT_NAME_MAX + 1];
    const char *name = wanted(reading, room);
    enum err err = store_each_key(reading->custody->conf.store, name, see_key, reading,
                                  &reading->call->detail);
    return err == ERR_OK ? check_found(reading, name, "key") : err;
}

static enum err see_client(void *context, const struct store_client *client)
{
    struct reading *reading = context;
    json_t *grants = json_array();
    json_t *item = json_pack("{ss ss ss}", "name", client->name, "public_key", client->public_key,
                             "created", client->created);
    reading->into = grants;
    enum err err = store_each_grant(reading->custody->conf.store, client->name, NULL,
                                    see_grant_of_client, reading, &reading->call->detail);
    reads_put(reading, item, "grants", grants);
    reads_add(reading, reading->top, item);
    return err;
}

enum err reads_clients(struct reading *reading)
{
    char room[TEXT_NAME_MAX + 1];
    const char *name = wanted(reading, room);
    enum err err = store_each_client(reading->custody->conf.store, name, see_client, reading,
                                     &reading->call->detail);
    return err == ERR_OK ? check_found(reading, name, "client") : err;
}

static void see_object(const struct token_key_item *from, void *context)
{
    struct reading *reading = context;
    const struct token_key_info *info = &from->info;
    char text[ACT_TYPE_SIZE];
    enum wire_key_type type = key_type_to_wire(info->type);
    const char *name = from->is_known_type ? act_type_text(type, info->bits, text) : NULL;
    reads_add(reading, reading->top,
              json_pack("{so so so so sb sb so}", "label", reads_text(bytes_of_text(from->label)),
                        "id", reads_hex(from->id), "type", name ? json_string(name) : json_null(),
                        "public_key_sha256", reads_sha256(info->public_key), "extractable",
                        info->extractable, "sensitive", info->sensitive, "known_as", json_null()));
}

static enum err see_known(void *context, const struct store_key *key)
{
    struct reading *reading = context;
    json_t *hash = reads_sha256(key->public_key);
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(reading->top, i, item)
    {
        json_t *of_item = json_object_get(item, "public_key_sha256");
        if (!key->is_destroyed && json_is_string(hash) && json_equal(hash, of_item))
            reads_put(reading, item, "known_as", json_string(key->name));
    }
    json_decref(hash);
    return ERR_OK;
}

enum err reads_objects(struct reading *reading)
{
    char room[TEXT_NAME_MAX + 1];
    const char *token = wanted(reading, room);
    struct custody *custody = reading->custody;
    if (!token)
        return err_set(&reading->call->detail, ERR_PERM, "the token is to be named");
    enum err err =
        custody->conf.tokens->list(custody->conf.keystore, token, reading->call->deadline,
                                   see_object, reading, &reading->call->detail);
    if (err != ERR_OK)
        return err;
    pthread_mutex_lock(&custody->store);
    err = store_each_key(custody->conf.store, NULL, see_known, reading, &reading->call->detail);
    pthread_mutex_unlock(&custody->store);
    return err;
}
