// SPDX-License-Identifier: Apache-2.0
// The private halves are in OpenSSL's hands only for as long as a call lasts: its own copies are
// wiped when it frees a key (EVP_PKEY), a PKCS8_PRIV_KEY_INFO, and the plain text it en- or
// decrypts. The passphrase is used from where the caller has it.
#include "hsmd/officers/keyfile.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/x509.h>
#include <zmq.h>

#include "hsmd/base/file.h"

#define KEY_SIZE 32 // of either private key
#define FILE_SIZE_MAX 8192
#define SALT_SIZE 16
// RFC 7914: 16 MiB, which is within the 32 that OpenSSL reads without being told to.
#define SCRYPT_N 16384
#define SCRYPT_R 8
#define SCRYPT_P 8

void officer_key_clear(struct officer_key *key)
{
    secret_clear(&key->signing);
    secret_clear(&key->curve);
    *key = (struct officer_key){0};
}

static enum err take_signing(EVP_PKEY *from, struct officer_key *key, struct detail *detail)
{
    size_t len = KEY_SIZE;
    size_t public_len = sizeof key->public_signing;
    enum err err = secret_init(&key->signing, KEY_SIZE, detail);
    if (err != ERR_OK)
        return err;
    if (EVP_PKEY_get_raw_private_key(from, key->signing.data, &len) != 1 || len != KEY_SIZE ||
        EVP_PKEY_get_raw_public_key(from, key->public_signing, &public_len) != 1)
        return err_openssl(detail, ERR_TEMP, "the signing key cannot be read");
    key->signing.len = len;
    return ERR_OK;
}

static enum err take_curve(EVP_PKEY *from, struct officer_key *key, struct detail *detail)
{
    uint8_t public[KEY_SIZE];
    size_t len = KEY_SIZE;
    size_t public_len = sizeof public;
    // Its text in front, and behind it for a moment the key as it is.
    enum err err = secret_init(&key->curve, CURVE_TEXT_SIZE + KEY_SIZE, detail);
    if (err != ERR_OK)
        return err;
    uint8_t *raw = key->curve.data + CURVE_TEXT_SIZE;
    if (EVP_PKEY_get_raw_private_key(from, raw, &len) != 1 || len != KEY_SIZE ||
        EVP_PKEY_get_raw_public_key(from, public, &public_len) != 1)
        return err_openssl(detail, ERR_TEMP, "the CURVE key cannot be read");
    if (!zmq_z85_encode((char *)key->curve.data, raw, KEY_SIZE) ||
        !zmq_z85_encode(key->public_curve, public, sizeof public))
        err = err_set(detail, ERR_BUG, "the CURVE key cannot be encoded");
    OPENSSL_cleanse(raw, KEY_SIZE);
    key->curve.len = CURVE_TEXT_SIZE - 1;
    return err;
}

// Of two keys of OpenSSL's.
static enum err take(EVP_PKEY *signing, EVP_PKEY *curve, struct officer_key *key,
                     struct detail *detail)
{
    struct officer_key taken = {0};
    enum err err = take_signing(signing, &taken, detail);
    if (err == ERR_OK)
        err = take_curve(curve, &taken, detail);
    if (err == ERR_OK)
        *key = taken;
    else
        officer_key_clear(&taken);
    return err;
}

enum err officer_key_generate(struct officer_key *key, struct detail *detail)
{
    EVP_PKEY *signing = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    EVP_PKEY *curve = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    enum err err = signing && curve ? take(signing, curve, key, detail)
                                    : err_openssl(detail, ERR_TEMP, "cannot generate keys");
    EVP_PKEY_free(signing);
    EVP_PKEY_free(curve);
    return err;
}

static EVP_PKEY *signing_key(const struct officer_key *key)
{
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, key->signing.data,
                                        key->signing.len);
}

static EVP_PKEY *curve_key(const struct officer_key *key, struct detail *detail)
{
    struct secret raw = {0};
    EVP_PKEY *made = NULL;
    if (secret_init(&raw, KEY_SIZE, detail) != ERR_OK)
        return NULL;
    if (key->curve.len == CURVE_TEXT_SIZE - 1 &&
        zmq_z85_decode(raw.data, (const char *)key->curve.data))
        made = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, NULL, raw.data, KEY_SIZE);
    if (!made)
        (void)err_openssl(detail, ERR_TEMP, "the CURVE key cannot be used");
    secret_clear(&raw);
    return made;
}

// One PEM block.
static bool put_pem(BIO *bio, EVP_PKEY *key, const struct secret *passphrase)
{
    PKCS8_PRIV_KEY_INFO *plain = EVP_PKEY2PKCS8(key);
    X509_ALGOR *scheme = PKCS5_pbe2_set_scrypt(EVP_aes_256_cbc(), NULL, SALT_SIZE, NULL, SCRYPT_N,
                                               SCRYPT_R, SCRYPT_P);
    X509_SIG *encrypted = NULL;
    if (plain && scheme)
        encrypted =
            PKCS8_set0_pbe((const char *)passphrase->data, (int)passphrase->len, plain, scheme);
    if (encrypted)
        scheme = NULL; // its own now
    bool is_put = encrypted && PEM_write_bio_PKCS8(bio, encrypted) == 1;
    X509_SIG_free(encrypted);
    X509_ALGOR_free(scheme);
    PKCS8_PRIV_KEY_INFO_free(plain);
    return is_put;
}

static size_t count_characters(const struct secret *text)
{
    size_t count = 0;
    for (size_t i = 0; i < text->len; i++)
        count += (text->data[i] & 0xc0) != 0x80;
    return count;
}

static enum err put_file(const char *path, struct bytes data, struct detail *detail)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_errno(detail, ERR_PERM, "%s", path);
    close(fd);
    // Ours now; its content comes whole or not at all.
    enum err err = file_write(path, data, 0600, detail);
    if (err != ERR_OK)
        unlink(path);
    return err;
}

enum err officer_key_write(const struct officer_key *key, const char *path,
                           const struct secret *passphrase, struct detail *detail)
{
    if (count_characters(passphrase) < KEYFILE_PASSPHRASE_MIN)
        return err_set(detail, ERR_PERM, "the passphrase has fewer than %d characters",
                       KEYFILE_PASSPHRASE_MIN);
    if (passphrase->len > KEYFILE_PASSPHRASE_MAX)
        return err_set(detail, ERR_PERM, "the passphrase has more than %d bytes",
                       KEYFILE_PASSPHRASE_MAX);
    EVP_PKEY *curve = curve_key(key, detail);
    if (!curve)
        return ERR_TEMP;
    EVP_PKEY *signing = signing_key(key);
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem = NULL;
    enum err err = ERR_OK;
    if (!signing || !bio || !put_pem(bio, signing, passphrase) || !put_pem(bio, curve, passphrase))
        err = err_openssl(detail, ERR_TEMP, "the keys cannot be encrypted");
    if (err == ERR_OK) {
        long len = BIO_get_mem_data(bio, &pem);
        err = put_file(path, bytes_of(pem, (size_t)len), detail);
    }
    BIO_free(bio);
    EVP_PKEY_free(signing);
    EVP_PKEY_free(curve);
    return err;
}

// The next PEM block; it must be a key of that type.
static enum err get_pem(BIO *bio, const char *path, const char *type,
                        const struct secret *passphrase, EVP_PKEY **key, struct detail *detail)
{
    X509_SIG *encrypted = PEM_read_bio_PKCS8(bio, NULL, NULL, NULL);
    if (!encrypted)
        return err_openssl(detail, ERR_PERM, "%s: not an officer's key file", path);
    PKCS8_PRIV_KEY_INFO *plain =
        PKCS8_decrypt(encrypted, (const char *)passphrase->data, (int)passphrase->len);
    EVP_PKEY *got = plain ? EVP_PKCS82PKEY(plain) : NULL;
    enum err err = ERR_OK;
    if (!plain)
        err = err_set(detail, ERR_DENIED, "%s: wrong passphrase (or the file is damaged)", path);
    else if (!got || !EVP_PKEY_is_a(got, type))
        err = err_set(detail, ERR_PERM,
                      "%s: not an officer's key file: no key of type %s in its "
                      "place",
                      path, type);
    PKCS8_PRIV_KEY_INFO_free(plain);
    X509_SIG_free(encrypted);
    ERR_clear_error();
    if (err == ERR_OK)
        *key = got;
    else
        EVP_PKEY_free(got);
    return err;
}

static enum err get_keys(BIO *bio, const char *path, const struct secret *passphrase,
                         struct officer_key *key, struct detail *detail)
{
    EVP_PKEY *signing = NULL;
    EVP_PKEY *curve = NULL;
    enum err err = get_pem(bio, path, "ED25519", passphrase, &signing, detail);
    if (err == ERR_OK)
        err = get_pem(bio, path, "X25519", passphrase, &curve, detail);
    if (err == ERR_OK && BIO_pending(bio) > 0)
        err = err_set(detail, ERR_PERM, "%s: something behind the two keys", path);
    if (err == ERR_OK)
        err = take(signing, curve, key, detail);
    EVP_PKEY_free(signing);
    EVP_PKEY_free(curve);
    return err;
}

enum err officer_key_read(const char *path, const struct secret *passphrase,
                          struct officer_key *key, struct detail *detail)
{
    struct secret text = {0};
    enum err err = secret_init(&text, FILE_SIZE_MAX, detail);
    if (err == ERR_OK)
        err = file_read_secret(path, &text, detail);
    BIO *bio = err == ERR_OK ? BIO_new_mem_buf(text.data, (int)text.len) : NULL;
    if (err == ERR_OK)
        err = bio ? get_keys(bio, path, passphrase, key, detail)
                  : err_set(detail, ERR_TEMP, "out of memory");
    BIO_free(bio);
    secret_clear(&text);
    return err;
}

enum err officer_key_sign(const struct officer_key *key, struct bytes message,
                          uint8_t signature[STATEMENT_SIGNATURE_SIZE], struct detail *detail)
{
    size_t len = STATEMENT_SIGNATURE_SIZE;
    EVP_PKEY *signing = signing_key(key);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    enum err err = ERR_OK;
    if (!signing || !ctx || EVP_DigestSignInit(ctx, NULL, NULL, NULL, signing) <= 0 ||
        EVP_DigestSign(ctx, signature, &len, message.data, message.len) != 1 ||
        len != STATEMENT_SIGNATURE_SIZE)
        err = err_openssl(detail, ERR_TEMP, "cannot sign");
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(signing);
    return err;
}
