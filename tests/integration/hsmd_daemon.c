// SPDX-License-Identifier: Apache-2.0
// The real hsmd with a real (Soft)HSM, asked through the real client.
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "hsmd/base/file.h"
#include "tests/integration/hsmd_process.h"
#include "tests/support/custodian.h"

static struct hsmd hsmd;
static struct buf frame;
static struct buf attributes;

static int setup(void **state)
{
    (void)state;
    hsmd_setup(&hsmd);
    buf_init(&frame, WIRE_FRAME_MAX);
    buf_init(&attributes, 4096);
    custodian_attributes(HASH_SHA256, &attributes);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hsmd_teardown(&hsmd);
    buf_clear(&frame);
    buf_clear(&attributes);
    return 0;
}

// Each test begins with the usual configuration and no hsmd, no log.
static int begin(void **state)
{
    (void)state;
    if (hsmd.pid)
        hsmd_stop(&hsmd, SIGKILL);
    unlink(hsmd_path(&hsmd, "state/audit.log"));
    hsmd_configure(&hsmd, NULL);
    return 0;
}

static void start(void)
{
    if (!hsmd_start(&hsmd, NULL))
        assert_true(hsmd_said(&hsmd, "READY"));
}

static enum err call(struct client *client, struct wire_request *request, struct wire_reply *reply)
{
    struct detail detail = {0};
    buf_reset(&frame);
    return client_call(client, request, &frame, reply, &detail);
}

static struct wire_request sign_request(const char *key, enum wire_algorithm algorithm)
{
    return (struct wire_request){.operation = WIRE_SIGN,
                                 .sign = {.key = bytes_of_text(key),
                                          .algorithm = algorithm,
                                          .hash = HASH_SHA256,
                                          .salt = algorithm == WIRE_RSA_PSS ? 32 : 0,
                                          .form = WIRE_ATTRIBUTES,
                                          .data = buf_bytes(&attributes)}};
}

static enum err sign(struct client *client)
{
    struct wire_reply reply;
    struct wire_request request = sign_request("signing", WIRE_RSA_PKCS1);
    return call(client, &request, &reply);
}

static void check_signature(const char *label, enum wire_algorithm algorithm,
                            struct bytes signature)
{
    EVP_PKEY *key = softhsm_public_key(&hsmd.hsm, label);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx = NULL;
    assert_int_equal(EVP_DigestVerifyInit(ctx, &pkey_ctx, EVP_sha256(), NULL, key), 1);
    if (algorithm == WIRE_RSA_PSS) {
        assert_true(EVP_PKEY_CTX_set_rsa_padding(pkey_ctx, RSA_PKCS1_PSS_PADDING) > 0);
        assert_true(EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey_ctx, 32) > 0);
    }
    assert_int_equal(
        EVP_DigestVerify(ctx, signature.data, signature.len, attributes.data, attributes.len), 1);
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(key);
}

static void test_sign(void **state)
{
    (void)state;
    static const struct {
        const char *key, *label;
        enum wire_algorithm algorithm;
    } rows[] = {{"signing", "rsa2048", WIRE_RSA_PKCS1},
                {"signing", "rsa2048", WIRE_RSA_PSS},
                {"ec-signing", "p256", WIRE_ECDSA}};
    start();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct wire_reply reply;
        struct wire_request request = sign_request(rows[i].key, rows[i].algorithm);
        assert_int_equal(call(client, &request, &reply), ERR_OK);
        check_signature(rows[i].label, rows[i].algorithm, reply.signature);
        request.sign.form = WIRE_DIGEST;
        request.sign.data.len = 32;
        assert_int_equal(call(client, &request, &reply), ERR_DENIED);
        request.sign.key = BYTES_LITERAL("decryption");
        assert_int_equal(call(client, &request, &reply), ERR_DENIED);
    }
    client_close(client);
}

static void test_unwrap(void **state)
{
    (void)state;
    static const uint8_t content_key[32] = {1, 2, 3, 4, 5};
    uint8_t wrapped[512];
    start();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    EVP_PKEY *key = softhsm_public_key(&hsmd.hsm, "rsa3072");
    for (int oaep = 0; oaep < 2; oaep++) {
        size_t len = sizeof wrapped;
        EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(key, NULL);
        assert_true(EVP_PKEY_encrypt_init(ctx) > 0);
        assert_true(EVP_PKEY_CTX_set_rsa_padding(ctx, oaep ? RSA_PKCS1_OAEP_PADDING
                                                           : RSA_PKCS1_PADDING) > 0);
        if (oaep)
            assert_true(EVP_PKEY_CTX_set_rsa_oaep_md(ctx, EVP_sha256()) > 0);
        assert_true(EVP_PKEY_encrypt(ctx, wrapped, &len, content_key, sizeof content_key) > 0);
        EVP_PKEY_CTX_free(ctx);
        struct wire_reply reply;
        struct wire_request request = {
            .operation = WIRE_UNWRAP,
            .unwrap = {.key = BYTES_LITERAL("decryption"),
                       .algorithm = oaep ? WIRE_RSAES_OAEP : WIRE_RSAES_PKCS1,
                       .hash = oaep ? HASH_SHA256 : HASH_NONE,
                       .mgf_hash = oaep ? HASH_SHA256 : HASH_NONE,
                       .length = oaep ? 0 : sizeof content_key,
                       .ciphertext = bytes_of(wrapped, len)}};
        assert_int_equal(call(client, &request, &reply), ERR_OK);
        assert_true(bytes_equal(reply.secret, bytes_of(content_key, sizeof content_key)));
        request.unwrap.key = BYTES_LITERAL("signing");
        assert_int_equal(call(client, &request, &reply), ERR_DENIED);
        wrapped[10] ^= 1; // an answer of the same shape, or OAEP's one error
        request.unwrap.key = BYTES_LITERAL("decryption");
        assert_int_equal(call(client, &request, &reply), oaep ? ERR_PERM : ERR_OK);
        assert_true(oaep || reply.secret.len == sizeof content_key);
    }
    EVP_PKEY_free(key);
    client_close(client);
}

static void test_agree(void **state)
{
    (void)state;
    uint8_t point[97];
    size_t len = 0;
    start();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    EVP_PKEY *mine = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-384");
    EVP_PKEY *theirs = softhsm_public_key(&hsmd.hsm, "p384");
    EVP_PKEY_get_octet_string_param(mine, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point, &len);
    struct wire_reply reply;
    struct wire_request request = {.operation = WIRE_AGREE,
                                   .agree = {.key = BYTES_LITERAL("ec-decryption"),
                                             .algorithm = WIRE_ECDH_X963,
                                             .hash = HASH_SHA384,
                                             .peer = bytes_of(point, len),
                                             .info = BYTES_LITERAL("shared info"),
                                             .length = 32}};
    assert_int_equal(call(client, &request, &reply), ERR_OK);
    // The sender's side of it, by libcrypto.
    uint8_t expected[32];
    len = sizeof expected;
    size_t kdf_len = sizeof expected;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_EXCHANGE_PARAM_KDF_TYPE, "X963KDF", 0),
        OSSL_PARAM_construct_utf8_string(OSSL_EXCHANGE_PARAM_KDF_DIGEST, "SHA384", 0),
        OSSL_PARAM_construct_size_t(OSSL_EXCHANGE_PARAM_KDF_OUTLEN, &kdf_len),
        OSSL_PARAM_construct_octet_string(OSSL_EXCHANGE_PARAM_KDF_UKM, (void *)"shared info", 11),
        OSSL_PARAM_construct_end()};
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new(mine, NULL);
    assert_true(EVP_PKEY_derive_init_ex(ctx, params) > 0);
    assert_true(EVP_PKEY_derive_set_peer(ctx, theirs) > 0);
    assert_true(EVP_PKEY_derive(ctx, expected, &len) > 0);
    assert_true(bytes_equal(reply.secret, bytes_of(expected, 32)));
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(mine);
    EVP_PKEY_free(theirs);
    client_close(client);
}

static void test_list_describe(void **state)
{
    (void)state;
    static const char *const names[] = {"decryption", "ec-decryption", "ec-signing", "general",
                                        "signing"};
    struct wire_reply reply;
    struct wire_request list = {.operation = WIRE_LIST};
    start();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(call(client, &list, &reply), ERR_OK);
    assert_int_equal(reply.list.count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_true(bytes_equal(reply.list.names[i], bytes_of_text(names[i])));
    struct wire_request describe = {.operation = WIRE_DESCRIBE,
                                    .describe = {BYTES_LITERAL("signing")}};
    assert_int_equal(call(client, &describe, &reply), ERR_OK);
    assert_int_equal(reply.description.bits, 2048);
    const uint8_t *der = reply.description.certificates.data;
    X509 *certificate = d2i_X509(NULL, &der, (long)reply.description.certificates.len);
    EVP_PKEY *key = softhsm_public_key(&hsmd.hsm, "rsa2048");
    assert_non_null(certificate);
    assert_int_equal(EVP_PKEY_eq(key, X509_get0_pubkey(certificate)), 1);
    EVP_PKEY_free(key);
    X509_free(certificate);
    client_close(client);
}

static unsigned count_lines(const char *needle)
{
    struct buf text;
    unsigned count = 0;
    buf_init(&text, 1 << 20);
    assert_int_equal(file_read(hsmd_path(&hsmd, "state/audit.log"), &text, NULL), ERR_OK);
    for (const char *at = buf_text(&text); (at = strstr(at, needle)) != NULL; at++)
        count++;
    buf_clear(&text);
    return count;
}

static void test_stranger_and_stop(void **state)
{
    (void)state;
    struct stat st;
    start();
    struct client *stranger = hsmd_client(&hsmd, "stranger", 2000);
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(stranger), ERR_TEMP); // "refused this client's key", and nothing else
    assert_int_equal(sign(client), ERR_OK);
    client_close(stranger);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_true(hsmd_said(&hsmd, "denied: unknown client"));
    assert_int_not_equal(stat(hsmd_path(&hsmd, "data.sock"), &st), 0);
    assert_int_equal(count_lines("\"event\":\"start\""), 1);
    assert_int_equal(count_lines("\"event\":\"use\""), 1);
    assert_int_equal(count_lines("\"event\":\"stop\""), 1);
    // Another one takes over, and the client that stayed finds it.
    start();
    assert_int_equal(sign(client), ERR_OK);
    // Killed: its socket stays behind and is no hindrance, and the log is whole.
    assert_int_equal(hsmd_stop(&hsmd, SIGKILL), 1000 + SIGKILL);
    start();
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(count_lines("\"event\":\"use\""), 3);
    assert_int_equal(hsmd_stop(&hsmd, SIGINT), 0);
    client_close(client);
}

static void test_rotation(void **state)
{
    (void)state;
    struct stat st;
    start();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(rename(hsmd_path(&hsmd, "state/audit.log"), hsmd_path(&hsmd, "state/old")), 0);
    kill(hsmd.pid, SIGHUP);
    for (int i = 0; i < 800 && stat(hsmd_path(&hsmd, "state/audit.log"), &st) != 0; i++)
        usleep(10000);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(count_lines("\"event\":\"rotate\""), 1);
    assert_int_equal(count_lines("\"event\":\"use\""), 1);
    client_close(client);
}

static void set_file_limit(rlim_t limit)
{
    struct rlimit both = {limit, RLIM_INFINITY};
    assert_int_equal(prlimit(hsmd.pid, RLIMIT_FSIZE, &both, NULL), 0);
}

// No room for the log: no answer but "temp"; and service again when there is room.
static void test_full_disk(void **state)
{
    (void)state;
    struct stat st;
    start();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(stat(hsmd_path(&hsmd, "state/audit.log"), &st), 0);
    set_file_limit((rlim_t)st.st_size + 20);
    for (int i = 0; i < 3; i++)
        assert_int_equal(sign(client), ERR_TEMP);
    set_file_limit(RLIM_INFINITY);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(count_lines("\n"), 4); // start, two uses, stop
    assert_int_equal(count_lines("\"prev\""), 4);
    client_close(client);
}

// The token's files go away and come back.
static void test_token_lost(void **state)
{
    (void)state;
    char tokens[240];
    char away[240];
    snprintf(tokens, sizeof tokens, "%s/tokens", hsmd.hsm.dir);
    snprintf(away, sizeof away, "%s/away", hsmd.hsm.dir);
    start();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(rename(tokens, away), 0);
    unsigned temporary = 0;
    for (unsigned i = 0; i < 4; i++, usleep(400000)) // long enough to be looked for and not found
        temporary += sign(client) == ERR_TEMP;
    assert_int_equal(rename(away, tokens), 0);
    assert_int_equal(temporary, 4);
    assert_true(hsmd_said(&hsmd, "state=\"not there\""));
    enum err err = ERR_TEMP;
    for (int i = 0; i < 50 && err != ERR_OK; i++) {
        err = sign(client);
        if (err != ERR_OK)
            usleep(100000);
    }
    assert_int_equal(err, ERR_OK);
    assert_true(hsmd_said(&hsmd, "state=\"lost\""));
    assert_true(hsmd_said(&hsmd, "state=\"back\""));
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    client_close(client);
}

static void write_text(const char *name, const char *text, unsigned mode)
{
    assert_int_equal(file_write(hsmd_path(&hsmd, name), bytes_of_text(text), mode, NULL), ERR_OK);
}

static void read_text(const char *name, char *text, size_t size)
{
    struct buf buf;
    buf_init(&buf, size - 1);
    assert_int_equal(file_read(hsmd_path(&hsmd, name), &buf, NULL), ERR_OK);
    snprintf(text, size, "%s", buf_text(&buf));
    buf_clear(&buf);
}

#define OFFICERS "log-level = info officers-listen = { \"ipc://DIR/officers.sock\" } "

// What is wrong is said by its step, with the exit status of its class; by hsmd, or by hsmd migrate
// before it.
static void test_failing_starts(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *said;
        int status;
    } rows[] = {
        {"\"pin\"", "\"open-pin\"", "token main: PIN: ", 78},
        {"\"pin\"", "\"no-pin\"", "token main: PIN: ", 78},
        {"pin-file = \"pin\"", "pin-credential = \"pin\"", "no credential \"pin\"", 78},
        {"CERTS/rsa2048.pem", "CERTS/none.pem", "key signing: ", 78},
        {"CERTS/rsa2048.pem", "hsmd.conf", "key signing: ", 78},
        {"\"server.key\"", "\"server.pub\"", "server key: ", 78},
        {"\"server.key\"", "\"pin\"", "server key: ", 78},
        {"\"state\"", "\"/\"", "state directory: ", 78},
        {"\"state\"", "\"hsmd.conf\"", "state directory: ", 78},
        {"log-level = info", "audit-log = \"no/such/dir/log\"", "audit log: ", 78},
        {"log-level = info", "audit-log = \"hsmd.conf\"", "audit log: ", 78},
        {"ipc://DIR/data.sock", "ipc://DIR/none/data.sock", "endpoint ", 78},
        {"ipc://DIR/data.sock", "ipc:///tmp/hsmd-test.sock", "everyone may write", 78},
        {"ipc://DIR/data.sock", "tcp://192.0.2.1:7", "endpoint tcp://192.0.2.1:7", 78},
        {"gw.pub", "server.key.none", "client gateway: ", 78},
        {"log-level = info", OFFICERS "officers-server-key-file = \"pin\"",
         "officers' server key: ", 78},
        {"log-level = info", OFFICERS "officers-server-key-file = \"server-2.key\"",
         "officers' server key: it is the server key too", 78},
        {"label = \"general\"", "label = \"rsa2048\"",
         "key general: it is the same key in the token as key signing", 78},
        {"key decryption {", "key decryption { certificate-file = \"CERTS/rsa2048.pem\"",
         "key decryption: certificate: its certificate is of the same key as that of key signing",
         78},
        {"log-level = info", "log-levle = info", "hsmd.conf:4: ", 78},
    };
    char key[80];
    write_text("open-pin", SOFTHSM_PIN, 0440);
    read_text("server.key", key, sizeof key);
    write_text("server-2.key", key, 0400);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int status = 0;
        hsmd_configure(&hsmd, rows[i].from, rows[i].to, NULL);
        if (hsmd_start(&hsmd, &status)) {
            print_error("row %zu (%s): started\n", i, rows[i].said);
            assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
            fail();
        }
        assert_true(hsmd_said(&hsmd, rows[i].said));
        if (status != rows[i].status)
            print_error("row %zu (%s): %d\n", i, rows[i].said, status);
        assert_int_equal(status, rows[i].status);
    }
}

// Tokens that are away, PINs that are refused and keys that are not good enough do not end the
// start: it is said, and the rest is served.
static void test_crippled_starts(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *said;
    } rows[] = {
        {"MODULE", "/nonexistent/module.so", "token main: module"},
        {"label = \"hsmd test\"", "label = \"another\"",
         "token main: no token with the label 'another'; in the module: 'hsmd test' (serial "},
        {"\"pin\"", "\"wrong-pin\"", "/wrong-pin)"},
        {"MODULE", "no/module.so", "/hsmd-test-"}, // from the file's directory
        {"MODULE", "no/module.so", "token=\"main\" state=\"opening\" module=\""},
        {"\"p256\"", "\"p999\"", "key ec-signing: "},
        {"id = \"01\"", "id = \"09\"", "key signing: "},
        {"\"p256\"", "\"weak\"", "key ec-signing: attributes: CKA_EXTRACTABLE"},
        {"\"p256\"", "\"shown\"", "key ec-signing: attributes: CKA_SENSITIVE"},
        {"\"p256\"", "\"decrypt-only\"", "key ec-signing: attributes: CKA_SIGN"},
        {"\"p384\"", "\"sign-only\"", "key ec-decryption: attributes: CKA_DERIVE"},
        {"CERTS/rsa2048.pem", "CERTS/general.pem", "key signing: another key has taken its place"},
    };
    write_text("wrong-pin", "99999", 0400);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bool is_key = strncmp(rows[i].said, "key ", 4) == 0;
        bool is_signing = strncmp(rows[i].said, "key signing", 11) == 0;
        hsmd_configure(&hsmd, rows[i].from, rows[i].to, NULL);
        start();
        assert_true(hsmd_said(&hsmd, rows[i].said));
        struct client *client = hsmd_client(&hsmd, "gw", 0);
        enum err err = sign(client);
        if (err != (is_key && !is_signing ? ERR_OK : ERR_TEMP))
            fail_msg("%s: %s", rows[i].said, err_name(err));
        client_close(client);
        assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    }
}

// Nor does it start while keys, clients or grants are in its configuration.
static void test_former_sections(void **state)
{
    (void)state;
    int status = 0;
    hsmd.is_to_migrate = false; // as somebody would who does not know of it
    assert_false(hsmd_start(&hsmd, &status));
    assert_int_equal(status, 78);
    assert_true(hsmd_said(&hsmd, "hsmd.conf:8: keys, clients and grants are kept in the registry"));
    assert_true(hsmd_said(&hsmd, "'hsmd migrate -c "));
}

static void test_second(void **state)
{
    (void)state;
    start();
    struct hsmd second = hsmd;
    int status = 0;
    assert_false(hsmd_start(&second, &status));
    assert_int_equal(status, 75);
    assert_true(hsmd_said(&hsmd, "state/registry.db: in use by another process"));
    struct client *client = hsmd_client(&hsmd, "gw", 0); // the first one still has its socket
    assert_int_equal(sign(client), ERR_OK);
    client_close(client);
}

// Another one, with a state of its own, must not take our socket, nor remove it when it fails.
static void test_same_socket(void **state)
{
    (void)state;
    struct hsmd second = hsmd;
    struct stat st;
    start();
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK);
    hsmd_configure(&second, "\"state\"", "\"state-2\"", NULL);
    int status = 0;
    assert_false(hsmd_start(&second, &status));
    assert_int_equal(status, 78);
    assert_true(hsmd_said(&hsmd, "another hsmd listens there"));
    struct client *later = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(later), ERR_OK);
    client_close(later);
    // A socket that was put in the place of ours is not ours to remove; our lock is.
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", hsmd_path(&hsmd, "data.sock"));
    unlink(address.sun_path);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    assert_int_equal(stat(address.sun_path, &st), 0);
    assert_int_not_equal(stat(hsmd_path(&hsmd, "data.sock.lock"), &st), 0);
    // Somebody listens who knows no lock.
    hsmd_configure(&hsmd, NULL);
    assert_false(hsmd_start(&hsmd, &status));
    assert_true(hsmd_said(&hsmd, "another process listens there"));
    assert_int_equal(stat(address.sun_path, &st), 0);
    close(fd); // now it is one left behind
    start();
    assert_int_equal(sign(client), ERR_OK);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
    write_text("data.sock", "mine", 0600);
    assert_false(hsmd_start(&hsmd, &status));
    assert_true(hsmd_said(&hsmd, "a file that is no socket"));
    assert_int_equal(unlink(address.sun_path), 0);
    client_close(client);
}

static unsigned free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    close(fd);
    return ntohs(address.sin_port);
}

// Two endpoints at once.
static void test_tcp(void **state)
{
    (void)state;
    char both[200];
    char ipc[96];
    char tcp[64];
    snprintf(tcp, sizeof tcp, "tcp://127.0.0.1:%u", free_port());
    snprintf(both, sizeof both, "\"%s\", \"%s\"", hsmd.endpoint, tcp);
    hsmd_configure(&hsmd, "\"ipc://DIR/data.sock\"", both, NULL);
    start();
    struct client *by_ipc = hsmd_client(&hsmd, "gw", 0);
    memcpy(ipc, hsmd.endpoint, sizeof ipc);
    snprintf(hsmd.endpoint, sizeof hsmd.endpoint, "%s", tcp);
    struct client *by_tcp = hsmd_client(&hsmd, "gw", 0);
    memcpy(hsmd.endpoint, ipc, sizeof ipc);
    assert_int_equal(sign(by_ipc), ERR_OK);
    assert_int_equal(sign(by_tcp), ERR_OK);
    client_close(by_ipc);
    client_close(by_tcp);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

static void test_credential(void **state)
{
    (void)state;
    setenv("CREDENTIALS_DIRECTORY", hsmd.dir, 1);
    hsmd_configure(&hsmd, "pin-file = \"pin\"", "pin-credential = \"pin\"", NULL);
    start();
    unsetenv("CREDENTIALS_DIRECTORY");
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

// Nobody's openssl.cnf is read: here it is a FIFO, on which opening it would wait for ever.
static void test_openssl_conf(void **state)
{
    (void)state;
    unlink(hsmd_path(&hsmd, "fifo"));
    assert_int_equal(mkfifo(hsmd_path(&hsmd, "fifo"), 0600), 0);
    setenv("OPENSSL_CONF", hsmd_path(&hsmd, "fifo"), 1);
    start();
    unsetenv("OPENSSL_CONF");
    struct client *client = hsmd_client(&hsmd, "gw", 0);
    assert_int_equal(sign(client), ERR_OK);
    client_close(client);
    assert_int_equal(hsmd_stop(&hsmd, SIGTERM), 0);
}

// What -t sees without a token.
static void test_check(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *said;
        int status;
    } rows[] = {
        {"ipc://DIR/data.sock", "ipc://DIR/none/data.sock", "none: No such file", 0},
        {"ipc://DIR/data.sock", "ipc:///tmp/hsmd-test.sock", "everyone may write", 78},
        {"MODULE", "none.so", "token main: module: ", 78},
        {"grant {", "grant {", ": good", 0},
        {"log-level = info", OFFICERS "officers-server-key-file = \"server-2.key\"",
         "officers' server key: it is the server key too", 78},
    };
    char key[80];
    char output[2000];
    char config[160];
    snprintf(config, sizeof config, "%s", hsmd_path(&hsmd, "hsmd.conf"));
    read_text("server.key", key, sizeof key);
    write_text("server-2.key", key, 0400);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        hsmd_configure(&hsmd, rows[i].from, rows[i].to, NULL);
        assert_int_equal(hsmd_migrate(&hsmd), 0);
        int status = hsmd_run(&hsmd, output, sizeof output, "-t", "-c", config, NULL);
        if (status != rows[i].status || !strstr(output, rows[i].said))
            fail_msg("row %zu: %d, %s", i, status, output);
    }
}

static void test_command_line(void **state)
{
    (void)state;
    char output[2000];
    struct stat st;
    char config[160];
    snprintf(config, sizeof config, "%s", hsmd_path(&hsmd, "hsmd.conf"));
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "-t", "-c", config, NULL), 78);
    assert_non_null(
        strstr(output, "hsmd.conf:8: keys, clients and grants are kept in the registry"));
    assert_int_equal(hsmd_migrate(&hsmd), 0);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "-t", "-c", config, NULL), 0);
    assert_non_null(strstr(output, "good"));
    assert_int_not_equal(stat(hsmd_path(&hsmd, "state/audit.log"), &st), 0); // touched nothing
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "--version", NULL), 0);
    assert_non_null(strstr(output, "hsmd " SEALGATE_VERSION));
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "--help", NULL), 0);
    assert_non_null(strstr(output, "usage: hsmd"));
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "--nonsense", NULL), 64);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "serve", NULL), 64);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "--ready-fd", "x", NULL), 64);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "keygen", NULL), 64);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "keygen", hsmd_path(&hsmd, "gw"), NULL),
                     78);
    assert_non_null(strstr(output, "there already"));
    write_text("half.pub", "", 0444);
    assert_int_equal(
        hsmd_run(&hsmd, output, sizeof output, "keygen", hsmd_path(&hsmd, "half"), NULL), 78);
    assert_non_null(strstr(output, "half.pub: there already"));
    assert_int_not_equal(stat(hsmd_path(&hsmd, "half.key"), &st), 0);
    unlink(hsmd_path(&hsmd, "half.pub"));
    assert_int_equal(
        hsmd_run(&hsmd, output, sizeof output, "keygen", hsmd_path(&hsmd, "half"), NULL), 0);
    assert_int_equal(stat(hsmd_path(&hsmd, "gw.key"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0400);
    chmod(hsmd_path(&hsmd, "pin"), 0644);
    assert_int_equal(hsmd_run(&hsmd, output, sizeof output, "-t", "-c", config, NULL), 78);
    chmod(hsmd_path(&hsmd, "pin"), 0400);
    assert_non_null(strstr(output, "chmod 0400"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup(name, begin)
    const struct CMUnitTest tests[] = {
        TEST(test_sign),
        TEST(test_unwrap),
        TEST(test_agree),
        TEST(test_list_describe),
        TEST(test_stranger_and_stop),
        TEST(test_rotation),
        TEST(test_full_disk),
        TEST(test_token_lost),
        TEST(test_failing_starts),
        TEST(test_crippled_starts),
        TEST(test_former_sections),
        TEST(test_second),
        TEST(test_same_socket),
        TEST(test_credential),
        TEST(test_openssl_conf),
        TEST(test_check),
        TEST(test_command_line),
        TEST(test_tcp),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
