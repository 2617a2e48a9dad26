// SPDX-License-Identifier: Apache-2.0
// The store's file: transactions, lock, mode, files of others, damage, a full disk.
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hsmd/base/file.h"
#include "hsmd/registry/store_internal.h"
#include "tests/unit/hsmd/store_support.h"

static void test_transactions(void **state)
{
    (void)state;
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    assert_int_equal(store_begin(store, &detail), ERR_BUG);
    add_client("gw", KEY_1);
    add_key("a");
    propose(1, "one");
    const struct store_key again = a_key("a"); // what is refused undoes itself alone
    assert_refused(store_add_key(store, &again, &detail), "already");
    assert_clients(NULL, "gw " KEY_1 "\n");
    store_rollback(store);
    store_rollback(store);
    assert_clients(NULL, "");
    assert_keys(NULL, "");
    assert_proposals(0, false, "");
    assert_int_equal(store_commit(store, &detail), ERR_BUG);
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    add_client("gw", KEY_1);
    assert_int_equal(store_commit(store, &detail), ERR_OK);
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    add_client("lost", KEY_2);
    reopen(); // closes within the transaction
    assert_clients(NULL, "gw " KEY_1 "\n");
}

static void test_file(void **state)
{
    (void)state;
    struct stat st;
    mode_t former = umask(0);
    store_close(store);
    store = NULL;
    unlink(path);
    reopen();
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    umask(0777);
    store_close(store);
    store = NULL;
    unlink(path);
    reopen();
    umask(former);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    store_close(store);
    store = NULL;
    chmod(path, 0640);
    assert_open_fails(ERR_PERM, "mode 0640: others may open it");
    chmod(path, 0600);
    reopen();
    assert_int_equal(sqlite3_libversion_number() >= 3037000, true); // STRICT
}

// Two at a time would each answer from half of the truth.
static void test_lock(void **state)
{
    (void)state;
    add_client("gw", KEY_1);
    assert_open_fails(ERR_TEMP, "in use by another process");
    assert_clients(NULL, "gw " KEY_1 "\n");
}

static void test_other_files(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *said;
    } rows[] = {
        {"PRAGMA user_version = 3", "of a later version of hsmd (3, we know 2)"},
        {"PRAGMA application_id = 1397179185", "another database"},
        {"PRAGMA application_id = 0; PRAGMA user_version = 0", "another database"},
        {"PRAGMA user_version = 0", "another database"},
        {"PRAGMA foreign_keys = OFF; INSERT INTO access VALUES ('a', 'b', 1, 1, 0, 0, 0, 0)",
         "refers to what is not there"},
        {"DELETE FROM custodian", "no instance"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        store_close(store);
        store = NULL;
        unlink(path);
        reopen();
        if (sqlite3_exec(store->db, rows[i].sql, NULL, NULL, NULL) != SQLITE_OK)
            fail_msg("%s: %s", rows[i].sql, sqlite3_errmsg(store->db));
        store_close(store);
        store = NULL;
        assert_open_fails(ERR_PERM, rows[i].said);
    }
    assert_int_equal(file_write(path, BYTES_LITERAL("# a text of somebody else's\n"), 0600, NULL),
                     ERR_OK);
    assert_open_fails(ERR_PERM, "no registry of hsmd");
    unlink(path);
    mkdir(path, 0700);
    assert_open_fails(ERR_PERM, "");
    rmdir(path);
    assert_int_equal(symlink("elsewhere", path), 0);
    assert_open_fails(ERR_PERM, "");
}

static bool is_locked(const char *token)
{
    bool is_locked = false;
    assert_int_equal(store_is_locked(store, token, &is_locked, &detail), ERR_OK);
    return is_locked;
}

// A registry of before officers' locks were kept gets what it lacks, and loses nothing.
static void test_locks_and_upgrade(void **state)
{
    (void)state;
    add_client("gw", KEY_1);
    assert_int_equal(
        sqlite3_exec(store->db, "DROP TABLE locked; PRAGMA user_version = 1", NULL, NULL, NULL),
        SQLITE_OK);
    reopen();
    assert_clients(NULL, "gw " KEY_1 "\n");
    assert_false(is_locked("main"));
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(store_set_locked(store, "main", true, &detail), ERR_OK);
    reopen();
    assert_true(is_locked("main"));
    assert_false(is_locked("other"));
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(store_set_locked(store, "main", false, &detail), ERR_OK);
    assert_false(is_locked("main"));
}

// Whatever an officer has a say in, and nothing else, changes it.
static void test_digest(void **state)
{
    (void)state;
    static const struct {
        const char *sql;
        bool is_other;
    } rows[] = {
        {"INSERT INTO key VALUES ('k', 1, 1, 0, 2, 0, 0, 0, 0, x'00', x'', 'now')", true},
        {"INSERT INTO place VALUES ('k', 0, 'main', 'k', x'01')", true},
        {"INSERT INTO officer VALUES ('o', 1, zeroblob(32), 'curve', 'now')", true},
        {"INSERT INTO access VALUES ('gw', 'k', 2, 2, 0, 0, 0, 0)", true},
        {"INSERT INTO locked VALUES ('main')", true},
        {"UPDATE custodian SET quorum = 3", true},
        {"UPDATE client SET public_key = public_key || 'x'", true},
        {"UPDATE officer SET role = 2", true},
        {"UPDATE officer SET signing_key = randomblob(32)", true},
        {"UPDATE access SET total = 9", true},
        {"UPDATE key SET state = 2", true},
        {"UPDATE key SET certificates = x'30'", true},
        {"UPDATE place SET label = 'l'", true},
        {"UPDATE place SET id = x'02'", true},
        {"UPDATE key SET public_key = x'01'", false},
        {"UPDATE client SET created = 'then'", false},
        {"DELETE FROM access", true},
        {"INSERT INTO nonce VALUES (zeroblob(16)); INSERT INTO proposal VALUES"
         " (1, 0, zeroblob(16), 'o', 0, 9, x'00', zeroblob(64), 9, 'now', '', x'')",
         false},
        {"UPDATE proposal SET state = 3", false}, // rejected
        {"UPDATE proposal SET state = 1", true},  // done
        {"UPDATE proposal SET state = 0", true},  // is to wait again
        {"UPDATE proposal SET state = 2", true},  // failed
    };
    uint8_t digests[2][STORE_DIGEST_SIZE];
    add_client("gw", KEY_1);
    assert_int_equal(store_digest(store, digests[1], &detail), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (sqlite3_exec(store->db, rows[i].sql, NULL, NULL, NULL) != SQLITE_OK)
            fail_msg("%s: %s", rows[i].sql, sqlite3_errmsg(store->db));
        if (store_digest(store, digests[i % 2], &detail) != ERR_OK)
            fail_msg("%s", detail.text);
        if ((memcmp(digests[0], digests[1], sizeof digests[0]) != 0) != rows[i].is_other)
            fail_msg("%s", rows[i].sql);
    }
}

// Values that no hsmd writes, in tables that are whole.
static void test_wrong_values(void **state)
{
    (void)state;
    static const struct {
        const char *sql, *said;
    } rows[] = {
        {"UPDATE key SET purpose = 99", "the purpose of a key"},
        {"UPDATE key SET state = 0", "the state of a key"},
        {"UPDATE key SET total = -1", "a key"},
        {"UPDATE place SET id = zeroblob(65)", "a place of a key"},
        {"UPDATE client SET public_key = 'short'", "a client"},
        {"UPDATE access SET per_hour = 1000000001", "a grant"},
        {"UPDATE officer SET role = 3", "an officer"},
        {"UPDATE proposal SET state = 5", "a proposal"},
        {"UPDATE verdict SET officer = hex(zeroblob(40))", "a verdict"},
    };
    add_key("a");
    add_client("gw", KEY_1);
    assert_int_equal(put_grant("gw", "a", 2, 0), ERR_OK);
    const struct store_officer officer = an_officer("alice", 1, KEY_2);
    assert_int_equal(store_add_officer(store, &officer, &detail), ERR_OK);
    propose(1, "one");
    assert_int_equal(put_verdict(1, "alice", true, 1), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        assert_int_equal(store_begin(store, &detail), ERR_OK);
        if (sqlite3_exec(store->db, rows[i].sql, NULL, NULL, NULL) != SQLITE_OK)
            fail_msg("%s: %s", rows[i].sql, sqlite3_errmsg(store->db));
        buf_reset(&seen);
        enum err err = store_each_key(store, NULL, see_key, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_client(store, NULL, see_client, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_grant(store, NULL, NULL, see_grant, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_officer(store, NULL, see_officer, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_proposal(store, 0, false, see_proposal, NULL, &detail);
        if (err == ERR_OK)
            err = store_each_verdict(store, 0, see_verdict, NULL, &detail);
        assert_refused(err, rows[i].said);
        assert_non_null(strstr(detail.text, "damaged"));
        store_rollback(store);
    }
}

// Each page of the file overwritten in turn: it is refused, or read without a crash.
static void test_damaged(void **state)
{
    (void)state;
    struct buf whole;
    unsigned refused = 0;
    add_key("a");
    add_client("gw", KEY_1);
    propose(1, "one");
    store_close(store);
    store = NULL;
    buf_init(&whole, 1 << 20);
    assert_int_equal(file_read(path, &whole, NULL), ERR_OK);
    for (size_t at = 0; at < whole.len; at += 4096) {
        uint8_t kept[100];
        struct store *other = NULL;
        memcpy(kept, whole.data + at, sizeof kept);
        memset(whole.data + at, 0xa5, sizeof kept);
        assert_int_equal(file_write(path, buf_bytes(&whole), 0600, NULL), ERR_OK);
        memcpy(whole.data + at, kept, sizeof kept);
        enum err err = store_open(path, &other, &detail);
        refused += err == ERR_PERM;
        assert_true(err == ERR_OK || (err == ERR_PERM && strstr(detail.text, path)));
        store_close(other);
    }
    assert_true(refused > 5);
    // Cut off in the middle.
    assert_int_equal(file_write(path, bytes_of(whole.data, whole.len / 2 + 100), 0600, NULL),
                     ERR_OK);
    assert_open_fails(ERR_PERM, "damaged");
    buf_clear(&whole);
}

static void fill(enum err expected)
{
    static uint8_t large[WIRE_CERTIFICATES_MAX];
    struct store_key key = a_key("large");
    key.certificates = bytes_of(large, sizeof large);
    assert_int_equal(store_add_key(store, &key, &detail), expected);
    if (expected != ERR_OK)
        assert_non_null(strstr(detail.text, path));
}

static void test_full(void **state)
{
    (void)state;
    add_client("gw", KEY_1);
    assert_int_equal(sqlite3_exec(store->db, "PRAGMA max_page_count = 25", NULL, NULL, NULL),
                     SQLITE_OK);
    fill(ERR_TEMP);
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    fill(ERR_TEMP);
    store_rollback(store);
    assert_keys(NULL, "");
    assert_clients(NULL, "gw " KEY_1 "\n");
    // There is room again.
    assert_int_equal(sqlite3_exec(store->db, "PRAGMA max_page_count = 1000", NULL, NULL, NULL),
                     SQLITE_OK);
    fill(ERR_OK);
    reopen();
}

// The limit of the file's size: writing itself fails, in the middle of a transaction.
static void test_write_fails(void **state)
{
    (void)state;
    struct rlimit former;
    add_client("gw", KEY_1);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &former), 0);
    const struct rlimit tight = {.rlim_cur = 8192, .rlim_max = former.rlim_max};
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    static uint8_t large[WIRE_CERTIFICATES_MAX];
    struct store_key key = a_key("large");
    key.certificates = bytes_of(large, sizeof large);
    enum err err = store_add_key(store, &key, &detail);
    enum err committed = err == ERR_OK ? store_commit(store, &detail) : err;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &former), 0);
    assert_int_equal(committed, ERR_TEMP);
    assert_non_null(strstr(detail.text, path));
    store_rollback(store);
    assert_keys(NULL, "");
    assert_clients(NULL, "gw " KEY_1 "\n");
    fill(ERR_OK);
    reopen();
    assert_clients(NULL, "gw " KEY_1 "\n");
}

// When SQLite has rolled back by itself, what comes after must not be written without the rest.
static void test_lost_transaction(void **state)
{
    (void)state;
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    add_client("gw", KEY_1);
    assert_int_equal(sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    const struct store_client client = a_client("archive", KEY_2);
    assert_int_equal(store_add_client(store, &client, &detail), ERR_TEMP);
    assert_non_null(strstr(detail.text, "rolled back"));
    assert_int_equal(store_commit(store, &detail), ERR_TEMP);
    assert_clients(NULL, "");
    assert_int_equal(store_begin(store, &detail), ERR_OK);
    store_rollback(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_transactions),
        TEST(test_file),
        TEST(test_lock),
        TEST(test_other_files),
        TEST(test_wrong_values),
        TEST(test_locks_and_upgrade),
        TEST(test_digest),
        TEST(test_damaged),
        TEST(test_full),
        TEST(test_write_fails),
        TEST(test_lost_transaction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
