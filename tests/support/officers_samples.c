// SPDX-License-Identifier: Apache-2.0
#include "tests/support/officers_samples.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>
#include <openssl/x509.h>

#include "hsmd/registry/registry.h"

#define CURVE_KEY "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7" // of RFC 32 and ZMTP 3.1
#define DNS64 "a-host-with-a-name-of-some-length.example.com"

#define T(text) BYTES_LITERAL(text)
#define LIMITS .per_minute = 60, .per_hour = 1000, .total = 1000000, .failures_per_hour = 5

// Public key of the first test of RFC 8032, 7.1.
static const uint8_t signing_key[OFFICER_SIGNING_KEY_SIZE] = {
    0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a,
    0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a};

static struct act_sample samples[] = {
    {"generate-rsa",
     {.kind = ACT_KEY_GENERATE,
      .name = T("signing"),
      .tokens = T("main"),
      .type = WIRE_KEY_RSA,
      .bits = 3072,
      .purpose = WIRE_SMIME_SIGN,
      .algorithms = REGISTRY_ALL},
     "Generate a new key \"signing\" (rsa:3072) in token \"main\", for signing mail (smime-sign). "
     "Its private half is made in the token and does not leave it. It cannot be used until it is "
     "enabled.\n"
     "  key: \"signing\"\n"
     "  tokens: \"main\"\n"
     "  type: rsa:3072\n"
     "  purpose: smime-sign\n"
     "  algorithms: all that the key can\n",
     "generate key \"signing\" (rsa:3072, smime-sign) in main"},
    {"generate-ec",
     {.kind = ACT_KEY_GENERATE,
      .name = T("k"),
      .tokens = T("t"),
      .type = WIRE_KEY_EC,
      .bits = 521,
      .purpose = WIRE_GENERAL,
      .algorithms = REGISTRY_SET(WIRE_ECDSA)},
     "Generate a new key \"k\" (ec:p521) in token \"t\", for anything: signing whatever a "
     "client hands in, and decrypting (general). Its private half is made in the token and "
     "does not leave it. It cannot be used until it is enabled.\n"
     "  key: \"k\"\n"
     "  tokens: \"t\"\n"
     "  type: ec:p521\n"
     "  purpose: general\n"
     "  algorithms: ecdsa\n",
     "generate key \"k\" (ec:p521, general) in t"},
    {"generate-ed25519",
     {.kind = ACT_KEY_GENERATE,
      .name = T("k"),
      .tokens = T("t"),
      .type = WIRE_KEY_ED25519,
      .bits = 256,
      .purpose = WIRE_GENERAL,
      .algorithms = REGISTRY_SET(WIRE_EDDSA)},
     "Generate a new key \"k\" (ed25519) in token \"t\", for anything: signing whatever a "
     "client hands in, and decrypting (general). Its private half is made in the token and "
     "does not leave it. It cannot be used until it is enabled.\n"
     "  key: \"k\"\n"
     "  tokens: \"t\"\n"
     "  type: ed25519\n"
     "  purpose: general\n"
     "  algorithms: ed25519\n",
     "generate key \"k\" (ed25519, general) in t"},
    {"import",
     {.kind = ACT_KEY_IMPORT,
      .name = T("old"),
      .tokens = T("main,spare"),
      .purpose = WIRE_SMIME_DECRYPT,
      .algorithms = REGISTRY_ALL,
      .any_name = true},
     "Bring the private key that comes with this proposal into tokens \"main\" and \"spare\" "
     "as key \"old\", for decrypting mail (smime-decrypt). Whoever has another copy of it can "
     "do the same with it, outside of this custodian. It cannot be used until it is enabled.\n"
     "  key: \"old\"\n"
     "  tokens: \"main\" and \"spare\"\n"
     "  purpose: smime-decrypt\n"
     "  algorithms: all that the key can\n"
     "  public-key: rsa:2048, SHA-256 "
     "ccc46e5d5f736fb98b8e74e61001613b305978961181f2d88d14d7e3ee3d9297\n"
     "  certificate: SHA-256 8ffc6eaf378358d9ab22c7945b4833c510f820bb69d9841f53af32aa640ddc93\n"
     "  subject: \"CN=rsa\"\n"
     "  also for: email \"rsa@a.example\"\n"
     "  issuer: \"CN=rsa\"\n"
     "  serial: 11c2ba57268e43defac0f47ffbe966f44dd3332c\n"
     "  valid from: 2026-11-21T23:55:28Z\n"
     "  valid to: 2126-10-28T23:55:28Z\n"
     "  public-key: rsa:2048, SHA-256 "
     "ccc46e5d5f736fb98b8e74e61001613b305978961181f2d88d14d7e3ee3d9297\n"
     "  any-name: yes\n",
     "import key \"old\" (smime-decrypt) in main,spare"},
    {"adopt",
     {.kind = ACT_KEY_ADOPT,
      .name = T("found"),
      .tokens = T("main"),
      .label = T("k\xc3\xb6y \"one\""),
      .id = T("\x01\xab"),
      .purpose = WIRE_GENERAL,
      .algorithms = REGISTRY_ALL},
     "Take on the private key with the label and id below, which is in token \"main\" already, as "
     "key \"found\", for anything: signing whatever a client hands in, and decrypting (general). "
     "Who made it, and who else can use it, is not known here. It cannot be used until it is "
     "enabled.\n"
     "  key: \"found\"\n"
     "  tokens: \"main\"\n"
     "  label: \"k\\xc3\\xb6y \\x22one\\x22\"\n"
     "  id: 01ab\n"
     "  purpose: general\n"
     "  algorithms: all that the key can\n",
     "adopt key \"found\" (general) in main"},
    {"place",
     {.kind = ACT_KEY_PLACE, .name = T("old"), .tokens = T("third"), .label = T("old")},
     "Use the private key with the label and id below, which is in token \"third\" already, "
     "as one more copy of key \"old\". From then on requests for the key may be done with it.\n"
     "  key: \"old\"\n"
     "  tokens: \"third\"\n"
     "  label: \"old\"\n",
     "place key \"old\" in third"},
    {"csr",
     {.kind = ACT_KEY_REQUEST,
      .name = T("signing"),
      .common_name = T("mail.example.com"),
      .organization = T("Example"),
      .unit = T("Mail"),
      .city = T("K\xc3\xb6ln"),
      .state = T("NRW"),
      .country = T("DE"),
      .domains = T("example.com," DNS64),
      .emails = T("a@example.com,b@example.com"),
      .hash = HASH_SHA384,
      .pss = true},
     "Sign a certificate request with key \"signing\" for the names below. With it a certification "
     "authority can certify that the key is theirs.\n"
     "  key: \"signing\"\n"
     "  common-name: \"mail.example.com\"\n"
     "  organization: \"Example\"\n"
     "  unit: \"Mail\"\n"
     "  city: \"K\\xc3\\xb6ln\"\n"
     "  state: \"NRW\"\n"
     "  country: \"DE\"\n"
     "  domains: \"example.com\" and \"" DNS64 "\"\n"
     "  emails: \"a@example.com\" and \"b@example.com\"\n"
     "  hash: sha384\n"
     "  pss: yes\n"
     "  any-name: no\n",
     "sign a request with key \"signing\" for \"mail.example.com\""},
    {"self-sign",
     {.kind = ACT_KEY_SELF_SIGN,
      .name = T("signing"),
      .common_name = T("x"),
      .hash = HASH_SHA256,
      .any_name = true,
      .days = 365},
     "Sign a certificate for key \"signing\" with the key itself, for the names below, valid "
     "for 365 days. Whoever trusts it takes what the key signs for theirs.\n"
     "  key: \"signing\"\n"
     "  common-name: \"x\"\n"
     "  hash: sha256\n"
     "  pss: no\n"
     "  any-name: yes\n"
     "  days: 365\n",
     "self-sign a certificate of key \"signing\" for \"x\""},
    {"certificate",
     {.kind = ACT_KEY_CERTIFICATE, .name = T("signing")},
     "Put 1 certificate beside key \"signing\", in place of what is there. From then on "
     "clients are given it with the key.\n"
     "  key: \"signing\"\n"
     "  certificate: SHA-256 8ffc6eaf378358d9ab22c7945b4833c510f820bb69d9841f53af32aa640ddc93\n"
     "  subject: \"CN=rsa\"\n"
     "  also for: email \"rsa@a.example\"\n"
     "  issuer: \"CN=rsa\"\n"
     "  serial: 11c2ba57268e43defac0f47ffbe966f44dd3332c\n"
     "  valid from: 2026-11-21T23:55:28Z\n"
     "  valid to: 2126-10-28T23:55:28Z\n"
     "  public-key: rsa:2048, SHA-256 "
     "ccc46e5d5f736fb98b8e74e61001613b305978961181f2d88d14d7e3ee3d9297\n"
     "  any-name: no\n",
     "put certificates beside key \"signing\""},
    {"enable",
     {.kind = ACT_KEY_ENABLE, .name = T("signing")},
     "Let key \"signing\" be used. From then on every client that has a grant for it can use "
     "it, as far as the grant goes.\n"
     "  key: \"signing\"\n",
     "enable key \"signing\""},
    {"disable",
     {.kind = ACT_KEY_DISABLE, .name = T("signing")},
     "Let key \"signing\" not be used. From then on nobody can sign or decrypt with it, until "
     "it is enabled again.\n"
     "  key: \"signing\"\n",
     "disable key \"signing\""},
    {"retire",
     {.kind = ACT_KEY_RETIRE, .name = T("signing")},
     "Let key \"signing\" decrypt, and nothing else. From then on nothing can be signed with "
     "it; what was encrypted for it can still be read.\n"
     "  key: \"signing\"\n",
     "retire key \"signing\""},
    {"destroy",
     {.kind = ACT_KEY_DESTROY, .name = T("signing")},
     "Destroy key \"signing\" in all its tokens. This cannot be undone: where no other copy is "
     "left, what was encrypted for this key can never be read again, and nothing can be signed "
     "with it.\n"
     "  key: \"signing\"\n",
     "destroy key \"signing\""},
    {"destroy-there",
     {.kind = ACT_KEY_DESTROY, .name = T("signing"), .tokens = T("a,b,c")},
     "Destroy the copies of key \"signing\" in tokens \"a\", \"b\" and \"c\". This cannot be "
     "undone: where no other copy is left, what was encrypted for this key can never be read "
     "again, and nothing can be signed with it.\n"
     "  key: \"signing\"\n"
     "  tokens: \"a\", \"b\" and \"c\"\n",
     "destroy key \"signing\" in a,b,c"},
    {"limit",
     {.kind = ACT_KEY_LIMIT, .name = T("signing"), LIMITS},
     "Limit how often key \"signing\" is used, by all clients together, to what is below, in "
     "place of the limits it has. Over a limit everybody is refused.\n"
     "  key: \"signing\"\n"
     "  per-minute: 60\n"
     "  per-hour: 1000\n"
     "  total: 1000000\n"
     "  failures-per-hour: 5\n",
     "limit key \"signing\", 60 per minute, 1000 per hour, 1000000 in total, 5 failures per hour"},
    {"limit-none",
     {.kind = ACT_KEY_LIMIT, .name = T("signing")},
     "Limit how often key \"signing\" is used, by all clients together, to what is below, in "
     "place of the limits it has. Over a limit everybody is refused.\n"
     "  key: \"signing\"\n"
     "  per-minute: no limit\n"
     "  per-hour: no limit\n"
     "  total: no limit\n"
     "  failures-per-hour: no limit\n",
     "limit key \"signing\", no limits"},
    {"client-add",
     {.kind = ACT_CLIENT_ADD, .name = T("gateway-1"), .curve_key = T(CURVE_KEY)},
     "Let client \"gateway-1\" connect. Whoever has the private half of the public key below "
     "is this client. It can use no key until it is granted one.\n"
     "  client: \"gateway-1\"\n"
     "  public-key: \"" CURVE_KEY "\"\n",
     "add client \"gateway-1\""},
    {"client-revoke",
     {.kind = ACT_CLIENT_REVOKE, .name = T("gateway-1")},
     "Shut client \"gateway-1\" out, and drop all its grants. From its next request on it can "
     "do nothing, though it be connected.\n"
     "  client: \"gateway-1\"\n",
     "revoke client \"gateway-1\""},
    {"grant",
     {.kind = ACT_GRANT,
      .name = T("gateway-1"),
      .key = T("signing"),
      .operations = REGISTRY_SET(WIRE_SIGN) | REGISTRY_SET(WIRE_UNWRAP),
      .algorithms = REGISTRY_ALL,
      .per_minute = 60},
     "Let client \"gateway-1\" use key \"signing\". From then on client \"gateway-1\" can have "
     "everything signed with key \"signing\" that the key's purpose allows, and have everything "
     "decrypted that was encrypted for key \"signing\", within the limits below, whenever the key "
     "is enabled. This takes the place of every grant it has for this key by then: what is not "
     "below it can do no longer.\n"
     "  client: \"gateway-1\"\n"
     "  key: \"signing\"\n"
     "  operations: sign, unwrap\n"
     "  algorithms: all that the key can\n"
     "  per-minute: 60\n"
     "  per-hour: no limit\n"
     "  total: no limit\n"
     "  failures-per-hour: no limit\n",
     "grant client \"gateway-1\" key \"signing\" to sign, unwrap, 60 per minute"},
    {"grant-algorithms",
     {.kind = ACT_GRANT,
      .name = T("gateway-1"),
      .key = T("signing"),
      .operations = REGISTRY_SET(WIRE_SIGN),
      .algorithms = REGISTRY_SET(WIRE_RSA_PSS) | REGISTRY_SET(WIRE_ECDSA)},
     "Let client \"gateway-1\" use key \"signing\". From then on client \"gateway-1\" can "
     "have everything signed with key \"signing\" that the key's purpose allows, within the "
     "limits below, whenever the key is enabled. This takes the place of every grant it has "
     "for this key by then: what is not below it can do no longer.\n"
     "  client: \"gateway-1\"\n"
     "  key: \"signing\"\n"
     "  operations: sign\n"
     "  algorithms: rsa-pss, ecdsa\n"
     "  per-minute: no limit\n"
     "  per-hour: no limit\n"
     "  total: no limit\n"
     "  failures-per-hour: no limit\n",
     "grant client \"gateway-1\" key \"signing\" to sign with rsa-pss, ecdsa, no limits"},
    {"ungrant",
     {.kind = ACT_UNGRANT, .name = T("gateway-1"), .key = T("signing")},
     "Drop all grants of client \"gateway-1\" for key \"signing\". From then on client "
     "\"gateway-1\" cannot use it.\n"
     "  client: \"gateway-1\"\n"
     "  key: \"signing\"\n",
     "drop the grants of client \"gateway-1\" for key \"signing\""},
    {"officer-add",
     {.kind = ACT_OFFICER_ADD,
      .name = T("alice"),
      .public_key = {signing_key, sizeof signing_key},
      .curve_key = T(CURVE_KEY),
      .role = OFFICER_OFFICER},
     "Make \"alice\" an officer. From then on whoever has the private halves of the keys below can "
     "propose every act and agree to every act, and counts for the quorum.\n"
     "  officer: \"alice\"\n"
     "  signing-key: d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a (SHA-256 "
     "21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9)\n"
     "  curve-key: \"" CURVE_KEY "\"\n"
     "  role: officer\n",
     "add officer \"alice\""},
    {"auditor-add",
     {.kind = ACT_OFFICER_ADD,
      .name = T("eve"),
      .public_key = {signing_key, sizeof signing_key},
      .curve_key = T(CURVE_KEY),
      .role = OFFICER_AUDITOR},
     "Make \"eve\" an auditor. From then on whoever has the private halves of the keys below "
     "can read everything here, and change nothing.\n"
     "  officer: \"eve\"\n"
     "  signing-key: d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a "
     "(SHA-256 21fe31dfa154a261626bf854046fd2271b7bed4b6abe45aa58877ef47f9721b9)\n"
     "  curve-key: \"" CURVE_KEY "\"\n"
     "  role: auditor\n",
     "add auditor \"eve\""},
    {"officer-remove",
     {.kind = ACT_OFFICER_REMOVE, .name = T("alice")},
     "Let \"alice\" be no officer and no auditor any more. From then on nothing that "
     "\"alice\" has signed counts, for pending proposals either.\n"
     "  officer: \"alice\"\n",
     "remove officer \"alice\""},
    {"quorum-1",
     {.kind = ACT_QUORUM, .number = 1},
     "From now on one officer alone can have every act carried out: nobody else need agree.\n"
     "  number: 1\n",
     "set the quorum to 1"},
    {"quorum-2",
     {.kind = ACT_QUORUM, .number = 2},
     "From now on 2 officers must agree to every act, the one who proposes it included.\n"
     "  number: 2\n",
     "set the quorum to 2"},
    {"unlock",
     {.kind = ACT_UNLOCK, .name = T("main")},
     "Log in to token \"main\" with the PIN that comes with this proposal. From then on the "
     "enabled keys in it can be used.\n"
     "  token: \"main\"\n",
     "unlock token \"main\""},
    {"lock",
     {.kind = ACT_LOCK, .name = T("main")},
     "Log out of token \"main\", and forget its PIN. From then on no key can be used in it, "
     "until officers unlock it again, whether or not its PIN is configured.\n"
     "  token: \"main\"\n",
     "lock token \"main\""},
};

static struct bytes certificate_der;
static struct bytes public_key_der;

static void load(void)
{
    FILE *file = fopen(TEST_DATA "/cms/rsa.pem", "re");
    X509 *certificate = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
    uint8_t *der = NULL;
    uint8_t *key = NULL;
    int len = certificate ? i2d_X509(certificate, &der) : 0;
    int key_len = certificate ? i2d_PUBKEY(X509_get0_pubkey(certificate), &key) : 0;
    if (len <= 0 || key_len <= 0) {
        fprintf(stderr, "%s: no certificate\n", TEST_DATA "/cms/rsa.pem");
        abort();
    }
    certificate_der = bytes_of(der, (size_t)len); // for as long as the process lives
    public_key_der = bytes_of(key, (size_t)key_len);
    X509_free(certificate);
    (void)fclose(file);
}

const struct act_sample *act_samples(size_t *count)
{
    *count = sizeof samples / sizeof *samples;
    if (certificate_der.len)
        return samples;
    load();
    for (size_t i = 0; i < *count; i++) {
        if (samples[i].act.kind == ACT_KEY_CERTIFICATE || samples[i].act.kind == ACT_KEY_IMPORT)
            samples[i].act.certificates = certificate_der;
        if (samples[i].act.kind == ACT_KEY_IMPORT)
            samples[i].act.public_key = public_key_der;
    }
    return samples;
}

bool message_sample(size_t index, const char **name, struct message_request *request)
{
    static const uint8_t filler[64] = {1, 2, 3, 4, 5};
    static const struct bytes act = T("\x93\x01\x08\xa1k"); // key-enable k
    const struct bytes nonce = {filler, STATEMENT_NONCE_SIZE};
    const struct bytes digest = {filler, STATEMENT_DIGEST_SIZE};
    const struct bytes signature = {filler, STATEMENT_SIGNATURE_SIZE};
    const struct statement statement = {
        .nonce = nonce, .replaces = 3, .lapse = STATEMENT_LAPSE_DEFAULT, .act = act};
    const struct {
        const char *name;
        struct message_request request;
    } requests[] = {
        {"status", {MESSAGE_READ, 1, .read = {READ_STATUS, {NULL, 0}, 0}}},
        {"keys", {MESSAGE_READ, 2, .read = {READ_KEYS, T("signing"), 0}}},
        {"clients", {MESSAGE_READ, 3, .read = {READ_CLIENTS, {NULL, 0}, 0}}},
        {"officers", {MESSAGE_READ, 4, .read = {READ_OFFICERS, {NULL, 0}, 0}}},
        {"proposals-all", {MESSAGE_READ, 5, .read = {READ_PROPOSALS, T("all"), 0}}},
        {"proposals-one", {MESSAGE_READ, 6, .read = {READ_PROPOSALS, T("17"), 0}}},
        {"usage", {MESSAGE_READ, 7, .read = {READ_USAGE, {NULL, 0}, 0}}},
        {"objects", {MESSAGE_READ, 8, .read = {READ_OBJECTS, T("main"), 0}}},
        {"audit-log", {MESSAGE_READ, 9, .read = {READ_AUDIT_LOG, {NULL, 0}, 1048576}}},
        {"propose", {MESSAGE_PROPOSE, 10, .propose = {statement, signature, {NULL, 0}}}},
        {"propose-pin",
         {MESSAGE_PROPOSE, UINT64_MAX, .propose = {statement, signature, T("1234")}}},
        {"approve", {MESSAGE_APPROVE, 11, .verdict = {1, digest, signature}}},
        {"reject", {MESSAGE_REJECT, 12, .verdict = {INT64_MAX, digest, signature}}},
    };
    if (index >= sizeof requests / sizeof *requests)
        return false;
    *name = requests[index].name;
    *request = requests[index].request;
    return true;
}
